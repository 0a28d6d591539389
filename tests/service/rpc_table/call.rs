//! One call of a user by curl, and its messages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// An answer: its status and message, and its body.
pub(crate) type Answer = (u16, Vec<u8>, String);

/// A call by curl; none if there is no status.
pub(crate) fn try_call(socket: &Path, uid: u32, rpc: &str, message: &[u8]) -> Option<Answer> {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = |name: &str| directory.path().join(name);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    fs::write(file("request"), [&[0], &length[..], message].concat()).unwrap();
    fs::set_permissions(file("request"), fs::Permissions::from_mode(0o644)).unwrap();
    // The answer to a watch does not end.
    let is_watch = rpc.ends_with("/Watch");
    let limit = if is_watch { "1" } else { "60" };
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", limit, "--http2-prior-knowledge", "--unix-socket"])
        .arg(socket)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args(["--data-binary", &format!("@{}", file("request").display())])
        .arg("-D")
        .arg(file("headers"))
        .arg("-o")
        .arg(file("body"))
        .arg(format!("http://psid/{rpc}"));
    curl.uid(uid).gid(uid);
    curl.output().unwrap();
    let headers = fs::read_to_string(file("headers")).unwrap_or_default();
    let field = |name: &str| {
        let lines = headers.lines().filter_map(|line| line.split_once(": "));
        lines.rev_find(name)
    };
    let body = fs::read(file("body")).unwrap_or_default();
    let body = body.get(5..).unwrap_or_default().to_vec();
    let status = match field("grpc-status") {
        None if is_watch && !body.is_empty() => 0,
        status => status?.parse().ok()?,
    };
    Some((status, body, field("grpc-message").unwrap_or_default()))
}

/// The last value of a field.
trait RevFind<'a> {
    fn rev_find(self, name: &str) -> Option<String>;
}

impl<'a, I: Iterator<Item = (&'a str, &'a str)>> RevFind<'a> for I {
    fn rev_find(self, name: &str) -> Option<String> {
        let found = self.filter(|(field, _)| *field == name).last();
        found.map(|(_, value)| value.to_owned())
    }
}

/// A field of a message: its number and a text shorter than 128 bytes.
pub(crate) fn text(field: u8, text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 128, "{text}");
    [&[field << 3 | 2, length], text.as_bytes()].concat()
}
