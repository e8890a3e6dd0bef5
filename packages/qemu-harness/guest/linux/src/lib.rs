//! Linux on x86-64 without a C library: what the programs need that run in guests.
//!
//! All unsafe code of those programs is here, besides their entry points; each module has the system calls of one subject.
//! Numbers and structures: the kernel's `uapi` headers. Nothing is allocated but what [`Pages`] takes.

#![no_std]

mod call;
mod file;
mod machine;
mod memory;
mod port;
mod process;
mod text;
mod tree;

pub use call::{Errno, Result};
pub use file::{Fd, Poll, duplicate, open, open_new, pause, pipe, pipe_of_packets, poll, write_error};
pub use machine::{Pages, connect, device_events, load_module, set_clock};
pub use port::open_port;
pub use process::{
    SIGCHLD, SIGKILL, SIGPIPE, Side, arguments, become_user, block_signals, execute, exit, fork, kill, new_session,
    own_id, reap, signal_bit, signal_file,
};
pub use text::{CString, decimal, join};
pub use tree::{change_directory, change_mode, change_root, make_directory, mode_of, mount, mounting};
