//! Starting programs.

use crate::protocol::Fields;
use leveret_linux::{self as sys, CString, Errno, Fd, Result, Side, open};

/// Arguments and variables together, at most.
const MAX_STRINGS: usize = 2048;
const MAX_PATH: usize = 4096;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A user or group that stays what it is.
const KEEP: u32 = u32::MAX;
const FLAG_TERMINAL: u32 = 1;

/// Where starting a program failed.
#[derive(Clone, Copy)]
pub enum Step {
    /// the request itself
    Request = 0,
    /// pipes, terminal or process
    Prepare = 1,
    /// user and group
    User = 2,
    /// working directory
    Directory = 3,
    /// the program
    Program = 4,
}

/// What a started program is connected with.
pub struct Started {
    /// its process id, and that of its group
    pub pid: i32,
    /// where what it reads is written to
    pub input: Fd,
    /// what it writes
    pub output: Fd,
    /// what it writes as errors; none when it has a terminal
    pub error: Option<Fd>,
}

/// How a start failed.
pub type Failure = (Errno, Step);

/// A request to start a program: flags, uid, gid (u32 each), rows, columns (u16 each), count of arguments, count of
/// variables (u32 each), then working directory, arguments and variables, each with a NUL. An empty directory is `/`.
struct Request<'a> {
    terminal: bool,
    uid: u32,
    gid: u32,
    rows: u16,
    columns: u16,
    arguments: usize,
    directory: CString<'a>,
    /// arguments, then variables
    strings: Fields<'a>,
}

fn parse(payload: &[u8]) -> Option<Request<'_>> {
    let mut fields = Fields(payload);
    let terminal = fields.u32()? & FLAG_TERMINAL != 0;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    let (rows, columns) = (fields.u16()?, fields.u16()?);
    let (arguments, variables) = (fields.u32()? as usize, fields.u32()? as usize);
    let directory = fields.text()?;
    let count = arguments.checked_add(variables)?;
    let nuls = fields.0.iter().filter(|byte| **byte == 0).count();
    let complete = fields.0.is_empty() || fields.0.last() == Some(&0);
    (arguments > 0 && count <= MAX_STRINGS && nuls == count && complete)
        .then_some(Request { terminal, uid, gid, rows, columns, arguments, directory, strings: fields })
}

/// Starts a program.
pub fn start(payload: &[u8]) -> core::result::Result<Started, Failure> {
    let request = parse(payload).ok_or((Errno::INVALID, Step::Request))?;
    let prepared = if request.terminal { terminal(&request) } else { pipes() };
    let (started, ends) = prepared.map_err(|error| (error, Step::Prepare))?;
    let (status, report) = sys::pipe().map_err(|error| (error, Step::Prepare))?;
    match sys::fork().map_err(|error| (error, Step::Prepare))? {
        Side::Child => {
            let (error, step) = run(request, &ends);
            let _ = report.write_all(&[error.0 as u8, step as u8]);
            sys::exit(127)
        }
        Side::Parent(pid) => {
            drop((ends, report));
            let mut said = [0; 2];
            // Its end is the program's beginning, which closes the other end.
            match status.read(&mut said) {
                Ok(0) => Ok(Started { pid, ..started }),
                Ok(_) => Err((Errno(u32::from(said[0])), step(said[1]))),
                Err(error) => Err((error, Step::Prepare)),
            }
        }
    }
}

fn step(number: u8) -> Step {
    [Step::Request, Step::Prepare, Step::User, Step::Directory, Step::Program]
        .get(usize::from(number))
        .copied()
        .unwrap_or(Step::Prepare)
}

/// The program's own ends: standard input, output and error.
type Ends = [Option<Fd>; 3];

fn pipes() -> Result<(Started, Ends)> {
    let (input_end, input) = sys::pipe()?;
    let (output, output_end) = sys::pipe()?;
    let (error, error_end) = sys::pipe()?;
    for file in [&input, &output, &error] {
        file.set_nonblocking()?;
    }
    let started = Started { pid: 0, input, output, error: Some(error) };
    Ok((started, [Some(input_end), Some(output_end), Some(error_end)]))
}

fn terminal(request: &Request) -> Result<(Started, Ends)> {
    const TIOCGPTN: usize = 0x8004_5430;
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    let path = CString::new(b"/dev/ptmx\0").ok_or(Errno::INVALID)?;
    let input = sys::open(path, open::BOTH | open::NO_TERMINAL)?;
    let mut unlocked = 0u32;
    input.control_with(TIOCSPTLCK, &mut unlocked)?;
    let mut number = 0u32;
    input.control_with(TIOCGPTN, &mut number)?;
    resize(&input, request.rows, request.columns)?;
    let peer = Fd::from_answer(input.control(TIOCGPTPEER, open::BOTH | open::NO_TERMINAL | open::CLOSE)?);
    let output = input.duplicate()?;
    output.set_nonblocking()?;
    Ok((Started { pid: 0, input, output, error: None }, [Some(peer), None, None]))
}

/// Sets the size of a terminal.
pub fn resize(terminal: &Fd, rows: u16, columns: u16) -> Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    terminal.control_with(TIOCSWINSZ, &mut [rows, columns, 0, 0]).map(drop)
}

/// What the child does until it is another program; returns why it could not become it.
fn run(request: Request, ends: &Ends) -> Failure {
    const TIOCSCTTY: usize = 0x540e;
    let prepare = || -> Result<()> {
        sys::block_signals(0)?;
        sys::new_session()?;
        let [first, ..] = ends;
        for (number, end) in (0..).zip(ends) {
            sys::duplicate(end.as_ref().or(first.as_ref()).ok_or(Errno::INVALID)?, number)?;
        }
        match (request.terminal, first) {
            (true, Some(terminal)) => terminal.control(TIOCSCTTY, 0).map(drop),
            _ => Ok(()),
        }
    };
    if let Err(error) = prepare() {
        return (error, Step::Prepare);
    }
    if (request.uid != KEEP || request.gid != KEEP)
        && let Err(error) = sys::become_user(request.uid, request.gid)
    {
        return (error, Step::User);
    }
    let directory = if request.directory.bytes().is_empty() { CString::new(b"/\0") } else { Some(request.directory) };
    if let Err(error) = directory.ok_or(Errno::INVALID).and_then(sys::change_directory) {
        return (error, Step::Directory);
    }
    (become_program(request), Step::Program)
}

fn become_program(mut request: Request) -> Errno {
    let mut pointers = [core::ptr::null(); MAX_STRINGS + 2];
    let mut path = DEFAULT_PATH;
    let mut name = None;
    let mut index = 0;
    while let Some(string) = request.strings.text() {
        // A null between arguments and variables.
        let variable = index >= request.arguments;
        if let Some(place) = pointers.get_mut(index + usize::from(variable)) {
            *place = string.pointer();
        }
        if variable && let Some(value) = string.bytes().strip_prefix(b"PATH=") {
            path = value;
        }
        name = name.or(Some(string));
        index += 1;
    }
    let Some(name) = name else { return Errno::INVALID };
    let Some((arguments, environment)) = pointers.split_at_checked(request.arguments + 1) else {
        return Errno::INVALID;
    };
    let execute = |program: CString| {
        // SAFETY: both end with null, and the strings with NUL: checked when the request was parsed.
        unsafe { sys::execute(program, arguments.as_ptr(), environment.as_ptr()) }
    };
    if name.bytes().contains(&b'/') {
        return execute(name);
    }
    let mut worst = Errno::NOT_FOUND;
    for directory in path.split(|byte| *byte == b':') {
        let mut file = [0; MAX_PATH];
        let Some(program) = sys::join(&[directory, b"/", name.bytes()], &mut file) else { continue };
        match execute(program) {
            Errno::NOT_FOUND | Errno::NOT_DIRECTORY => {}
            // There may be another one that may be started.
            Errno::DENIED => worst = Errno::DENIED,
            error => return error,
        }
    }
    worst
}
