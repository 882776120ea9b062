//! The device protocol: bytes to meaning and back. No I/O, no clock, no panic on any input.

/// stub
#[derive(Clone, Copy)]
pub struct StatusByte(pub u8);
impl StatusByte {
    pub fn has_fault(self) -> bool {
        self.0 & 0x47 != 0
    }
    pub fn charging(self) -> bool {
        self.0 & 0x10 != 0
    }
    pub fn no_load(self) -> bool {
        self.0 & 8 != 0
    }
    pub fn metering_fault(self) -> bool {
        self.0 & 0x40 != 0
    }
    pub fn over_temperature(self) -> bool {
        self.0 & 4 != 0
    }
    pub fn over_current(self) -> bool {
        self.0 & 2 != 0
    }
    pub fn over_power(self) -> bool {
        self.0 & 1 != 0
    }
}
/// stub
pub struct Frame<'a>(pub &'a [u8]);
