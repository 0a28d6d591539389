//! Standard input, output and error: byte for byte, with every error reported.

use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use psi_common::{Exit, MAX_SECRET_BYTES, SecretBytes, check};

use crate::error::CliError;

/// Writes a value to stdout.
pub(crate) fn write_value(value: &SecretBytes) -> Result<(), CliError> {
    write_out(value.expose_secret())
}

/// Writes lines of text to stdout, with control characters escaped.
pub(crate) fn write_text(text: &str) -> Result<(), CliError> {
    write_out(check::printable_lines(text).as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), CliError> {
    let failed = |cause: Errno| {
        CliError::io("writing to stdout", &cause.into(), "the reader went away: run it again")
    };
    if at_start::stdout_was_closed() {
        return Err(failed(Errno::EBADF));
    }
    // Not by std's stdout, which is line-buffered and may report an error late.
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(standard(1), rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    Ok(())
}

/// Reads stdin to its end: 1 to [`MAX_SECRET_BYTES`] bytes.
pub(crate) fn read_value() -> Result<SecretBytes, CliError> {
    let limit = MAX_SECRET_BYTES + 1;
    // Allocate the whole buffer: growing would leave copies of the secret behind.
    let mut bytes = Vec::with_capacity(limit + 1);
    std::io::stdin()
        .lock()
        .take(limit as u64)
        .read_to_end(&mut bytes)
        .map_err(|cause| CliError::io("reading stdin", &cause, "run it again"))?;
    let value = SecretBytes::new(bytes);
    match value.len() {
        0 => Err(CliError::new(Exit::BadInput, "stdin is empty", "pass the secret on stdin")),
        len if len > MAX_SECRET_BYTES => Err(CliError::new(
            Exit::BadInput,
            format!("stdin holds more than {MAX_SECRET_BYTES} bytes, podman's limit for a secret"),
            "split it, or mount a file instead",
        )),
        _ => Ok(value),
    }
}

/// Reads one line from stdin, of at most 4 KiB, without the line end.
pub(crate) fn read_line() -> Result<SecretBytes, CliError> {
    let mut line = Vec::with_capacity(4_096);
    // One byte at a time and without std's buffer, which would keep a copy.
    while line.len() < line.capacity() {
        let mut byte = [0];
        match nix::unistd::read(standard(0), &mut byte) {
            Ok(1) if byte != *b"\n" => line.push(byte[0]),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(cause) => return Err(CliError::io("reading stdin", &cause.into(), "run it again")),
        }
    }
    Ok(SecretBytes::new(line))
}

/// Writes an error as `PROGRAM: TITLE: ERROR`, in one write, so that the lines of concurrent drivers on podman's
/// stderr do not mix. A closed stderr is ignored.
pub(crate) fn print_error(program: &str, title: &str, error: &CliError) {
    if error.has_message() {
        print_line(program, title, &error.to_string());
    }
}

/// Writes `PROGRAM: TITLE: TEXT` to stderr, in one write.
pub(crate) fn print_line(program: &str, title: &str, text: &str) {
    let line = format!("{program}: {}: {}\n", check::printable(title), check::printable(text));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A standard descriptor, without std's buffer and lock.
fn standard(fd: RawFd) -> BorrowedFd<'static> {
    #[expect(unsafe_code, reason = "nix has no constants for the standard descriptors")]
    // SAFETY: 0, 1 and 2 are open: Rust's runtime opens /dev/null in place of a closed one, and nothing here closes
    // one.
    unsafe {
        BorrowedFd::borrow_raw(fd)
    }
}

/// Before `main`, Rust's runtime opens `/dev/null` in place of a closed standard descriptor. A value that is written
/// there would be lost with exit status 0, so that the check whether stdout is open comes before the runtime.
mod at_start {
    use std::sync::atomic::{AtomicBool, Ordering};

    static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    pub(super) fn stdout_was_closed() -> bool {
        STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
    }

    #[expect(
        unsafe_code,
        reason = "nix's fcntl takes an open descriptor, and this one may be closed"
    )]
    extern "C" fn check() {
        // SAFETY: F_GETFD only looks the descriptor up. Before main: one system call, no allocation, no std runtime.
        let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1;
        STDOUT_WAS_CLOSED.store(closed, Ordering::Relaxed);
    }

    #[expect(unsafe_code, reason = "only the loader's init_array runs before Rust's runtime")]
    #[used]
    #[unsafe(link_section = ".init_array")]
    static CHECK: extern "C" fn() = check;
}
