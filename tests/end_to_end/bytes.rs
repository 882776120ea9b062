//! Frames put together by hand, so that the program's own codec is not asked about itself.

use chargegate::ids::DeviceId;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A frame to a device.
pub fn framed(command: u16, id: &str, message_id: u32, data: &[u8]) -> Vec<u8> {
    frame([0xfc, 0xff], 0, command, &unhex(id), message_id, data)
}

/// A frame of a device.
pub fn uplink(command: u16, id: DeviceId, data: &[u8]) -> Vec<u8> {
    frame([0xfc, 0xfe], 1, command, &id.bcd(), 0, data)
}

fn frame(head: [u8; 2], direction: u8, command: u16, id: &[u8], message_id: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 17).unwrap();
    let mut summed = length.to_be_bytes().to_vec();
    summed.extend(command.to_be_bytes());
    summed.extend(message_id.to_be_bytes());
    summed.push(direction);
    summed.extend(id);
    summed.extend(data);
    let sum = summed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let mut bytes = head.to_vec();
    bytes.extend(summed);
    bytes.extend([sum, 0xfc, 0xee]);
    bytes
}
