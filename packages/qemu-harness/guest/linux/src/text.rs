//! Text without allocation.

/// A string with the NUL that C wants at its end.
#[derive(Clone, Copy, Debug)]
pub struct CString<'a>(&'a [u8]);

impl<'a> CString<'a> {
    /// Takes bytes that end with their only NUL.
    pub fn new(bytes: &'a [u8]) -> Option<CString<'a>> {
        (bytes.iter().position(|byte| *byte == 0)? + 1 == bytes.len()).then_some(CString(bytes))
    }

    /// Its bytes without the NUL.
    pub fn bytes(&self) -> &'a [u8] {
        self.0.get(..self.0.len() - 1).unwrap_or_default()
    }

    /// Its address.
    pub fn pointer(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

impl<'a> From<&'a core::ffi::CStr> for CString<'a> {
    fn from(text: &'a core::ffi::CStr) -> CString<'a> {
        CString(text.to_bytes_with_nul())
    }
}

/// Several pieces as one string, in memory that is given for it.
pub fn join<'a>(parts: &[&[u8]], memory: &'a mut [u8]) -> Option<CString<'a>> {
    let mut length = 0;
    for part in parts {
        memory.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    *memory.get_mut(length)? = 0;
    CString::new(memory.get(..=length)?)
}

/// A number in digits.
pub fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}
