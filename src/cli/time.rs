//! Times for people and other programs, from integer Unix milliseconds.

/// RFC 3339 in UTC, with milliseconds where there are any; `None` outside the years 0 to 9999.
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    let (date, time) = date_and_time(unix_ms)?;
    let ms = unix_ms.rem_euclid(1000);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    Some(format!("{date}T{time}{fraction}Z"))
}

/// The same for a table: to the second.
pub fn readable(unix_ms: i64) -> Option<String> {
    date_and_time(unix_ms).map(|(date, time)| format!("{date} {time}Z"))
}

/// The same, where the order of things matters.
pub fn readable_to_the_millisecond(unix_ms: i64) -> Option<String> {
    let ms = unix_ms.rem_euclid(1000);
    date_and_time(unix_ms).map(|(date, time)| format!("{date} {time}.{ms:03}Z"))
}

fn date_and_time(unix_ms: i64) -> Option<(String, String)> {
    let seconds = unix_ms.div_euclid(1000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let time = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    (0..=9999).contains(&year).then(|| (format!("{year:04}-{month:02}-{day:02}"), time))
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01.
///
/// Counts in eras of 400 years (146,097 days) that begin on 1 March, so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds_where_there_are_any() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_250, "2024-02-29T23:59:59.250Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(unix_ms).as_deref(), Some(text));
        }
        assert_eq!(readable(1_709_251_199_250).as_deref(), Some("2024-02-29 23:59:59Z"));
    }

    #[test]
    fn times_beyond_four_digit_years_have_no_text() {
        for unix_ms in [253_402_300_800_000, i64::MAX, i64::MIN, -62_200_000_000_000] {
            assert_eq!(rfc3339(unix_ms), None);
        }
    }
}
