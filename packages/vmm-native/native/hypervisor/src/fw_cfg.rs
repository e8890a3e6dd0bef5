//! Files that QEMU hands in (docs/specs/fw_cfg.rst): kernels and what belongs to them.

use crate::cpu::{inb, outl, outw};
use core::ptr;
use vmm_core::memory::{GuestMemory, OutOfMemory};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// Lower half of the big-endian address of a [`Request`], which starts it; the upper half is 0.
const DMA: u16 = 0x518;

const SIGNATURE: u16 = 0x00;
const FILE_DIRECTORY: u16 = 0x19;

const FAILED: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;

#[repr(C)]
struct Request {
    control: u32,
    length: u32,
    address: u64,
}

/// The device. It has one position, so there is one of these.
pub struct FwCfg(());

/// A file of the device.
#[derive(Clone, Copy, Debug)]
pub struct File {
    selector: u16,
    /// How many bytes it has.
    pub size: u32,
}

impl FwCfg {
    /// The device, if there is one.
    ///
    /// # Safety
    ///
    /// Nobody else uses it.
    pub unsafe fn find() -> Option<FwCfg> {
        // SAFETY: on machines without the device nothing answers at these ports.
        let signature = unsafe {
            outw(SELECTOR, SIGNATURE);
            [(); 4].map(|()| inb(DATA))
        };
        (&signature == b"QEMU").then_some(FwCfg(()))
    }

    /// A file by its name.
    pub fn open(&mut self, name: &str) -> Option<File> {
        let mut count = [0; 4];
        self.read_item(FILE_DIRECTORY, 0, &mut count);
        for index in 0..u32::from_be_bytes(count) {
            let mut entry = [0; 64];
            self.read_item(FILE_DIRECTORY, 4 + index * 64, &mut entry);
            let [s0, s1, s2, s3, k0, k1, _, _, found @ ..] = entry;
            let length = found.iter().position(|byte| *byte == 0).unwrap_or(found.len());
            if &found[..length] == name.as_bytes() {
                let size = u32::from_be_bytes([s0, s1, s2, s3]);
                return Some(File { selector: u16::from_be_bytes([k0, k1]), size });
            }
        }
        None
    }

    /// The decimal number that a file consists of.
    pub fn read_number(&mut self, name: &str) -> Option<u64> {
        let file = self.open(name)?;
        let mut digits = [0; 20];
        let digits = digits.get_mut(..file.size as usize)?;
        self.read(file, 0, digits);
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Fills `bytes` from an offset of a file on; zeros behind its end.
    pub fn read(&mut self, file: File, offset: u32, bytes: &mut [u8]) {
        self.read_item(file.selector, offset, bytes);
    }

    fn read_item(&mut self, selector: u16, offset: u32, bytes: &mut [u8]) {
        // SAFETY: the bytes are a reference's, and lie where their address says.
        unsafe { self.read_to(selector, offset, bytes.as_mut_ptr(), bytes.len() as u32) };
    }

    /// Fills a part of a guest's memory from an offset of a file on.
    pub fn read_to_guest(
        &mut self,
        file: File,
        offset: u32,
        memory: &mut GuestMemory,
        address: u64,
        length: u32,
    ) -> Result<(), OutOfMemory> {
        let to = memory.host_range(address, length.into())?;
        // SAFETY: the guest's memory, which takes writes at any time.
        unsafe { self.read_to(file.selector, offset, to, length) };
        Ok(())
    }

    /// Fills `length` bytes from `to` on.
    ///
    /// # Safety
    ///
    /// They may be written to.
    unsafe fn read_to(&mut self, selector: u16, offset: u32, to: *mut u8, length: u32) {
        let select = SELECT | u32::from(selector) << 16;
        // SAFETY: skipping writes to nothing; reading writes to what the caller names.
        unsafe {
            request(if offset == 0 { select } else { select | SKIP }, offset, 0);
            request(READ, length, to.addr() as u64);
        }
    }
}

/// # Safety
///
/// With [`READ`], `length` bytes from `address` on may be written to.
unsafe fn request(control: u32, length: u32, address: u64) {
    let request = Request { control: control.to_be(), length: length.to_be(), address: address.to_be() };
    // SAFETY: the device reads the request and, with the caller's permission, writes to what that names, before `outl`
    // is over.
    unsafe { outl(DMA, (ptr::from_ref(&request).addr() as u32).to_be()) };
    // The device has written to the request too: 0, or that it failed, which no request for a file that exists does.
    // SAFETY: a reference's.
    let control = unsafe { ptr::from_ref(&request.control).read_volatile() };
    assert!(u32::from_be(control) & FAILED == 0, "fw_cfg failed");
}
