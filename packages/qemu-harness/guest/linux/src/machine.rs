//! What belongs to the machine as a whole: its memory, modules, clock, devices and addresses.

use crate::call::{Errno, Result, call};
use crate::file::{Fd, open};

/// Memory of its own, zeros at first, given back when it goes.
pub struct Pages {
    address: *mut u8,
    length: usize,
}

impl Pages {
    /// Takes `length` bytes.
    pub fn new(length: usize) -> Result<Pages> {
        const READ_WRITE: usize = 3;
        const PRIVATE_ANONYMOUS: usize = 0x22;
        const NO_FILE: usize = usize::MAX;
        // SAFETY: new memory, where nothing else is.
        let address = unsafe { call(9, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, NO_FILE, 0])? };
        Ok(Pages { address: address as *mut u8, length })
    }
}

impl core::ops::Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes that are there until this goes, and are lent out only through it.
        unsafe { core::slice::from_raw_parts(self.address, self.length) }
    }
}

impl core::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has them.
        unsafe { core::slice::from_raw_parts_mut(self.address, self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: nobody has a slice of it any more.
        let _ = unsafe { call(11, [self.address as usize, self.length, 0, 0, 0, 0]) };
    }
}

/// Loads a kernel module.
pub fn load_module(file: &Fd) -> Result<()> {
    // SAFETY: the parameters are an empty string.
    unsafe { call(313, [file.number() as usize, c"".as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets the clock, in nanoseconds since 1970.
pub fn set_clock(nanoseconds: u64) -> Result<()> {
    const CLOCK_REALTIME: usize = 0;
    let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: the kernel reads two numbers of eight bytes.
    unsafe { call(227, [CLOCK_REALTIME, time.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// A file that something can be read from whenever a device comes, goes or changes.
pub fn device_events() -> Result<Fd> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW: usize = 3;
    const NETLINK_KOBJECT_UEVENT: usize = 15;
    const GROUP_KERNEL: u32 = 1;
    // SAFETY: numbers only.
    let number = unsafe { call(41, [AF_NETLINK, SOCK_RAW | open::CLOSE, NETLINK_KOBJECT_UEVENT, 0, 0, 0])? };
    let socket = Fd::from_answer(number);
    // struct sockaddr_nl: family, port chosen by the kernel, groups.
    let address = [AF_NETLINK as u32, 0, GROUP_KERNEL];
    // SAFETY: the kernel reads twelve bytes.
    unsafe { call(49, [number, address.as_ptr() as usize, size_of_val(&address), 0, 0, 0])? };
    Ok(socket)
}

/// Begins to connect to a TCP port of an IPv4 or IPv6 address, of 4 or 16 bytes.
pub fn connect(address: &[u8], port: u16) -> Result<Fd> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    const SOCK_STREAM: usize = 1;
    const IN_PROGRESS: Errno = Errno(115);
    // struct sockaddr_in6: family, port, flow, address, scope; struct sockaddr_in has its address where that has the flow.
    let mut name = [0; 28];
    let (family, start) = if address.len() == 4 { (AF_INET, 4) } else { (AF_INET6, 8) };
    name[..2].copy_from_slice(&family.to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    let place = name[start..].get_mut(..if start == 4 { 4 } else { 16 }).filter(|place| place.len() == address.len());
    place.ok_or(Errno::INVALID)?.copy_from_slice(address);
    // SAFETY: numbers only.
    let number = unsafe { call(41, [usize::from(family), SOCK_STREAM | open::NONBLOCK | open::CLOSE, 0, 0, 0, 0])? };
    let socket = Fd::from_answer(number);
    // SAFETY: the kernel reads no more than there is.
    match unsafe { call(42, [number, name.as_ptr() as usize, name.len(), 0, 0, 0]) } {
        Ok(_) | Err(IN_PROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
