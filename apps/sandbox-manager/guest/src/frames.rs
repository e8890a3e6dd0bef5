//! Messages as they go over the port: those of FUSE, and a few of our own in the same form.
//!
//! See `include/uapi/linux/fuse.h`: `struct fuse_in_header`, `struct fuse_out_header`.

/// Most bytes that the kernel writes or reads at once; the host says the same when the file system is started.
pub const MAX_IO: usize = 256 * 1024;
/// Most bytes of a message: the data, and room for every header.
pub const MAX_FRAME: usize = MAX_IO + 4096;
/// Length of what a request begins with.
pub const REQUEST_HEADER: usize = 40;
/// Length of what a reply begins with.
pub const REPLY_HEADER: usize = 16;
/// Most bytes of a message to the notifier.
pub const MAX_NOTICE: usize = 4096;
/// How many of those the host sends before it waits for their receipts.
pub const MAX_NOTICES: usize = 64;

/// Requests that no reply is sent to.
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const NOTIFY_REPLY: u32 = 41;
const BATCH_FORGET: u32 = 42;

/// Messages of our own to the host: `opcode` of a request whose `unique` is a number.
pub mod tell {
    /// That many notices were dealt with.
    pub const NOTICED: u32 = 0x4c56_0001;
    /// Everything that was asked is answered, and nothing is asked until [`super::told::RESUME`].
    pub const PAUSED: u32 = 0x4c56_0002;
}

/// Messages of our own from the host: `error` of a reply whose `unique` is 0, where FUSE has its notifications.
pub mod told {
    /// Ask nothing more, and say when everything is answered.
    pub const PAUSE: u32 = 0x4c56_0001;
    /// Go on.
    pub const RESUME: u32 = 0x4c56_0002;
    /// Make whoever watches a path notice that it has changed; the path follows, from the mount point on, with a NUL.
    pub const TOUCH: u32 = 0x4c56_0003;
    /// List a directory, so that the kernel knows what is in it.
    pub const LIST: u32 = 0x4c56_0004;
}

/// Whether the host replies to a request.
pub fn is_answered(request: &[u8]) -> bool {
    !matches!(u32_at(request, 4), Some(FORGET | INTERRUPT | NOTIFY_REPLY | BATCH_FORGET))
}

/// Number at an offset.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// What a reply or a message of our own begins with.
pub struct Reply {
    /// length of all of it
    pub length: usize,
    /// error, or kind of notification
    pub code: u32,
    /// whether nobody asked for it
    pub is_notice: bool,
}

impl Reply {
    /// Reads it, when all of it is there.
    pub fn of(bytes: &[u8]) -> Option<Reply> {
        let unique = bytes.get(8..REPLY_HEADER)?;
        Some(Reply {
            length: u32_at(bytes, 0)? as usize,
            code: u32_at(bytes, 4)?,
            is_notice: unique.iter().all(|byte| *byte == 0),
        })
    }
}

/// A message of our own to the host.
pub fn own(kind: u32, number: u64) -> [u8; REQUEST_HEADER] {
    let mut frame = [0; REQUEST_HEADER];
    frame[..4].copy_from_slice(&(REQUEST_HEADER as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&kind.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame
}
