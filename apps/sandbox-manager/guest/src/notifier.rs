//! Tells the kernel what has changed on the host, in a process of its own.
//!
//! The kernel takes a notification only when nobody works in the directory that it is about, and whoever does may be
//! waiting for a reply: whoever carries replies must not wait for that.

use crate::frames::{MAX_NOTICE, MAX_NOTICES, REPLY_HEADER, Reply, told};
use leveret_linux::{self as sys, CString, Fd, Result, Side, open};

const MAX_PATH: usize = 4096;

/// The process, as the other one sees it.
pub struct Notifier {
    /// takes a notice at a time
    pub notices: Fd,
    /// has a byte for each that was dealt with
    pub receipts: Fd,
}

/// Starts the process.
pub fn start(device: &Fd, mountpoint: CString) -> Result<Notifier> {
    let (notices_out, notices_in) = sys::pipe_of_packets()?;
    let (receipts_out, receipts_in) = sys::pipe()?;
    // A packet takes a page at least.
    notices_in.set_pipe_size(2 * MAX_NOTICE * MAX_NOTICES)?;
    match sys::fork()? {
        Side::Parent(_) => Ok(Notifier { notices: notices_in, receipts: receipts_out }),
        Side::Child => {
            drop((notices_in, receipts_out));
            let mut notice = [0; MAX_NOTICE];
            loop {
                let length = notices_out.read(&mut notice).unwrap_or(0);
                if length == 0 {
                    sys::exit(0);
                }
                deal_with(notice.get(..length).unwrap_or_default(), device, mountpoint);
                if receipts_in.write(&[0]).is_err() {
                    sys::exit(0);
                }
            }
        }
    }
}

fn deal_with(notice: &[u8], device: &Fd, mountpoint: CString) {
    let Some(Reply { code, .. }) = Reply::of(notice) else { return };
    let mut path = [0; MAX_PATH];
    // It ends with a NUL of its own.
    let below = notice.get(REPLY_HEADER..).and_then(|below| below.strip_suffix(b"\0"));
    let path = below.and_then(|below| sys::join(&[mountpoint.bytes(), b"/", below], &mut path));
    match code {
        told::TOUCH => {
            // Setting the mode that it has changes nothing, and everybody who watches hears of it.
            if let Some(path) = path
                && let Ok(mode) = sys::mode_of(path)
            {
                let _ = sys::change_mode(path, mode);
            }
        }
        told::LIST => {
            let Some(directory) = path.and_then(|path| sys::open(path, open::READ | open::DIRECTORY).ok()) else { return };
            let mut entries = [0; 32 * 1024];
            while directory.entries(&mut entries).is_ok_and(|length| length > 0) {}
        }
        // What the kernel has forgotten already needs no notification.
        _ => drop(device.write(notice)),
    }
}
