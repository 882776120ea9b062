//! The device protocol: bytes to meaning and back. No I/O, no clock, no panic on any input.
