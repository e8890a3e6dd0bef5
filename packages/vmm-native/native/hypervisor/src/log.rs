//! What the hypervisor says about itself: one JSON object a line, on the first serial port.

use crate::serial::{COM1, Port};
use core::fmt::{self, Write};

/// Writes `{"event":NAME,FIELDS}` with fields given as a format of JSON.
macro_rules! event {
    ($name:literal $(, $format:literal $($argument:tt)*)?) => {
        $crate::log::write(format_args!(
            concat!("{{\"event\":\"", $name, "\"" $(, ",", $format)?, "}}\n") $($($argument)*)?
        ))
    };
}
pub(crate) use event;

/// Writes a line.
pub fn write(line: fmt::Arguments) {
    // Writing to a port cannot fail.
    let _ = Port(COM1).write_fmt(line);
}

/// Text as a JSON string.
pub struct Quoted<T>(pub T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        write!(Escape(out), "{}", self.0)?;
        out.write_char('"')
    }
}

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| match character {
            '"' | '\\' => write!(self.0, "\\{character}"),
            '\0'..='\x1f' => write!(self.0, "\\u{:04x}", character as u32),
            _ => self.0.write_char(character),
        })
    }
}
