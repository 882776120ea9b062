//! Times as text: RFC 3339 in JSON (contract §1), and the calendar that devices are told. No clock is read here.

use crate::clock::WallTime;

/// A moment on the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// Year, may be any.
    pub year: i64,
    /// 1–12.
    pub month: u8,
    /// 1–31.
    pub day: u8,
    /// 0–23.
    pub hour: u8,
    /// 0–59.
    pub minute: u8,
    /// 0–59.
    pub second: u8,
    /// 0–999.
    pub millis: u16,
}

const MS_PER_DAY: i64 = 86_400_000;
const DAYS_PER_ERA: i64 = 146_097;

/// The calendar in UTC, proleptic Gregorian.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "each part is within its bounds")]
pub fn calendar(time: WallTime) -> Calendar {
    let days = time.0.div_euclid(MS_PER_DAY);
    let ms = time.0.rem_euclid(MS_PER_DAY);
    // Years are counted from March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Calendar {
        year: era * 400 + year_of_era + i64::from(month <= 2),
        month: month as u8,
        day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
        hour: (ms / 3_600_000) as u8,
        minute: (ms / 60_000 % 60) as u8,
        second: (ms / 1000 % 60) as u8,
        millis: (ms % 1000) as u16,
    }
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - 719_468
}

/// `2026-01-31T12:00:00.000Z`.
pub fn rfc3339(time: WallTime) -> String {
    let Calendar { year, month, day, hour, minute, second, millis } = calendar(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads RFC 3339 with `Z` or an offset; `None` when it is none.
pub fn parse_rfc3339(text: &str) -> Option<WallTime> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits.iter().all(u8::is_ascii_digit).then(|| text[from..to].parse().ok())?
    };
    let at = |place: usize, one_of: &[u8]| one_of.contains(&bytes[place]);
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_month = |day| (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    if !in_month(day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = split_fraction(&text[19..])?;
    let offset = parse_offset(rest)?;
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(WallTime(seconds * 1000 + fraction))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_of(next_year, next_month, 1) - days_of(year, month, 1)
}

/// Milliseconds of a fraction, and what is behind it.
fn split_fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let millis = format!("{:0<3}", &rest[..digits.min(3)]).parse().ok()?;
    (digits > 0).then_some((millis, &rest[digits..]))
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    minute_of_day(rest).map(|minutes| sign * i64::from(minutes) * 60)
}

/// `"hh:mm"` as minutes since midnight.
pub fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits =
        |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?;
    let (hours, minutes): (u16, u16) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_were_written() {
        for ms in
            [0, -1, 1, 951_782_399_999, 951_782_400_000, 1_795_507_200_123, -62_135_596_800_000, 253_402_300_799_999]
        {
            assert_eq!(parse_rfc3339(&rfc3339(WallTime(ms))), Some(WallTime(ms)), "{ms}");
        }
        assert_eq!(rfc3339(WallTime(1_582_934_400_000)), "2020-02-29T00:00:00.000Z");
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        let noon = parse_rfc3339("2026-01-31T12:00:00Z");
        assert_eq!(parse_rfc3339("2026-01-31T20:00:00+08:00"), noon);
        assert_eq!(parse_rfc3339("2026-01-31T12:00:00.0Z"), noon);
        assert_eq!(parse_rfc3339("2026-01-31T12:00:00.123456Z"), noon.map(|time| WallTime(time.0 + 123)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+8",
        ];
        for text in wrong {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
