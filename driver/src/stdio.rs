//! Standard input, output and error: byte-exact, checked, and honest about being closed.

use std::io::{Read, Write};

use psi_common::{Exit, MAX_SECRET_BYTES, SecretBytes, check};

use crate::error::CliError;

/// Writes a value to stdout in one checked write.
pub(crate) fn write_value(value: &SecretBytes) -> Result<(), CliError> {
    write_out(value.expose_secret())
}

/// Writes lines of text to stdout. Whatever a name in them holds, no terminal takes it for an order.
pub(crate) fn write_text(text: &str) -> Result<(), CliError> {
    write_out(check::printable_lines(text).as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), CliError> {
    let failed =
        |cause| CliError::io("writing to stdout", &cause, "the reader went away: run it again");
    if at_start::stdout_was_closed() {
        return Err(failed(std::io::Error::from(rustix::io::Errno::BADF)));
    }
    // Not by std's stdout, which is line-buffered: a value goes out whole, and an error is its own.
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(cause) => return Err(failed(cause.into())),
        }
    }
    Ok(())
}

/// Reads stdin to its end: 1 to [`MAX_SECRET_BYTES`] bytes.
pub(crate) fn read_value() -> Result<SecretBytes, CliError> {
    let limit = MAX_SECRET_BYTES + 1;
    // The whole buffer at once: growing would leave copies of the secret behind.
    let mut bytes = Vec::with_capacity(limit + 1);
    std::io::stdin()
        .lock()
        .take(limit as u64)
        .read_to_end(&mut bytes)
        .map_err(|cause| CliError::io("reading stdin", &cause, "run it again"))?;
    let value = SecretBytes::new(bytes);
    match value.len() {
        0 => Err(CliError::new(Exit::BadInput, "stdin holds nothing", "pass the secret on stdin")),
        len if len > MAX_SECRET_BYTES => Err(CliError::new(
            Exit::BadInput,
            format!("stdin holds more than {MAX_SECRET_BYTES} bytes, podman's limit for a secret"),
            "split it, or mount a file instead",
        )),
        _ => Ok(value),
    }
}

/// Reads one line from stdin, of at most 4 KiB, without its end.
pub(crate) fn read_line() -> Result<SecretBytes, CliError> {
    let mut line = Vec::with_capacity(4_096);
    // Byte by byte, past std's buffer, which would keep a copy.
    while line.len() < line.capacity() {
        let mut byte = [0];
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(1) if byte != *b"\n" => line.push(byte[0]),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
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

/// Before `main`, Rust's runtime opens `/dev/null` in place of a closed standard descriptor. A value
/// written there is a value lost with exit 0, so whether stdout was open must be asked before that.
mod at_start {
    use std::sync::atomic::{AtomicBool, Ordering};

    static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    pub(super) fn stdout_was_closed() -> bool {
        STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
    }

    extern "C" fn look() {
        // Safe before main: one system call and one store, no allocation, no std runtime.
        let closed =
            rustix::io::fcntl_getfd(rustix::stdio::stdout()) == Err(rustix::io::Errno::BADF);
        STDOUT_WAS_CLOSED.store(closed, Ordering::Relaxed);
    }

    #[expect(unsafe_code, reason = "only the loader's init_array runs before Rust's runtime")]
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;
}
