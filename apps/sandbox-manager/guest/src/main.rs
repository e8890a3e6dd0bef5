//! Mounts a directory of the host in a machine: `leveret-workspace MOUNTPOINT PORT`.
//!
//! What the kernel asks of the file system goes to the host over a virtio serial port as it is, and what the host
//! answers goes to the kernel: both are messages that begin with their length. Nothing is understood here but what is
//! needed to stop between two messages, which a machine must do before it becomes the template of forks.
//!
//! Returns when the file system is mounted. No allocation: everything has its place from the beginning.

#![no_std]
#![no_main]

mod attach;
mod frames;
mod notifier;
mod shovel;

use core::arch::global_asm;
use core::panic::PanicInfo;
use leveret_linux::{self as sys, CString, Errno, Side};

// The kernel starts a program with its stack aligned: the number of arguments, then their addresses.
global_asm!(
    ".globl _start",
    "_start:",
    "    xor ebp, ebp",
    "    mov rdi, rsp",
    "    call {main}",
    "    ud2",
    main = sym main
);

/// What was being done when it did not work, for people.
pub struct Failure(pub &'static str, pub Errno);

extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the stack that a program starts with has the number of arguments, then that many addresses of strings.
    let arguments = unsafe { sys::arguments(stack) };
    let code = match run(arguments) {
        Ok(()) => 0,
        Err(Failure(what, Errno(number))) => {
            let mut digits = [0; 20];
            for piece in [b"leveret-workspace: ", what.as_bytes(), b": errno ", sys::decimal(number as usize, &mut digits), b"\n"] {
                let _ = sys::write_error(piece);
            }
            1
        }
    };
    sys::exit(code)
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    sys::exit(101)
}

fn run([mountpoint, port]: [Option<CString<'static>>; 2]) -> Result<(), Failure> {
    let (Some(mountpoint), Some(port)) = (mountpoint, port) else {
        return Err(Failure("expected a mount point and the name of a port", Errno::INVALID));
    };
    let port = sys::open_port(port.bytes()).map_err(|error| Failure("cannot open the port", error))?;
    let device = attach::mount(mountpoint)?;
    match sys::fork().map_err(|error| Failure("cannot start in the background", error))? {
        Side::Parent(_) => Ok(()),
        Side::Child => {
            let _ = attach::leave_caller();
            let notifier = notifier::start(&device, mountpoint).map_err(|error| Failure("cannot start", error))?;
            shovel::run(&device, &port, &notifier).map_err(|error| Failure("lost the host", error))
        }
    }
}
