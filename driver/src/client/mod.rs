//! The call: connect, one request, one answer, one absolute deadline; a status becomes an exit code
//! and a sentence with its cause.

mod checked;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::Message;
use psi_proto::health::{HealthCheckRequest, HealthCheckResponse, SERVING};
use psi_proto::v1::{
    DeleteRequest, DeleteResponse, ListRequest, ListResponse, LookupRequest, LookupResponse,
    StoreKind, StoreRequest, StoreResponse, lookup_request,
};

pub(crate) use self::checked::{Checked, Printable, is_id, nothing_to_check, texts};
use crate::error::CliError;
use crate::wire::{self, GrpcStatus, TransportError};

/// The service that podman's verbs call.
pub(crate) const DRIVER: &str = "/psi.v1.SecretDriver";

/// How long podman waits where nothing listens. With a socket unit something always does, also while psid is
/// restarted; without one, a psid that is restarted is back by then.
const NOBODY: Duration = Duration::from_secs(1);

/// Which secret a call is about.
pub(crate) enum Key {
    Id(SecretId),
    Name(String),
}

/// How long a call may take, and whether it waits for a daemon that is not there yet.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// Podman holds a host-wide lock meanwhile, and a failed lookup can end a healthy container: wait
    /// for a daemon that is restarting, but not for ever.
    Podman,
    /// A person or a monitor wants to know now.
    Probe,
    /// Long work with progress, under a person's eyes.
    Admin,
    /// Work that takes as long as it was asked to.
    For(Duration),
}

/// One daemon, one deadline.
pub(crate) struct Client {
    socket: PathBuf,
    patience: Deadline,
    deadline: Instant,
}

impl Client {
    /// Starts the clock; connects at the first call.
    pub(crate) fn new(paths: &Paths, patience: Deadline) -> Self {
        let deadline = Instant::now() + patience.limit();
        Self { socket: paths.socket.clone(), patience, deadline }
    }

    pub(crate) fn lookup(&self, key: &Key) -> Result<SecretBytes, CliError> {
        let key = Some(match key {
            Key::Id(id) => lookup_request::Key::Id(id.to_string()),
            Key::Name(name) => lookup_request::Key::Name(name.clone()),
        });
        let answer: LookupResponse = self.call(DRIVER, "Lookup", &LookupRequest { key })?;
        Ok(SecretBytes::new(answer.value.into()))
    }

    pub(crate) fn store(
        &self,
        id: SecretId,
        data: &SecretBytes,
        kind: StoreKind,
    ) -> Result<(), CliError> {
        let request = StoreRequest {
            id: id.to_string(),
            data: data.expose_secret().to_vec(),
            kind: kind.into(),
        };
        self.call::<StoreResponse>(DRIVER, "Store", &request).map(|_| ())
    }

    /// With `force` also while psid can store nothing, which it refuses podman.
    pub(crate) fn delete(&self, id: SecretId, force: bool) -> Result<(), CliError> {
        let request = DeleteRequest { id: id.to_string(), force };
        self.call::<DeleteResponse>(DRIVER, "Delete", &request).map(|_| ())
    }

    pub(crate) fn list(&self) -> Result<Vec<String>, CliError> {
        self.call::<ListResponse>(DRIVER, "List", &ListRequest {}).map(|answer| answer.ids)
    }

    pub(crate) fn health(&self) -> Result<(), CliError> {
        let request = HealthCheckRequest { service: String::new() };
        let answer: HealthCheckResponse = self.call("/grpc.health.v1.Health", "Check", &request)?;
        if answer.status == SERVING {
            return Ok(());
        }
        Err(CliError::new(
            Exit::NoDaemon,
            "psid answers that it does not serve",
            "it is stopping, or see `journalctl -u psid`",
        ))
    }

    /// A call that has one answer.
    pub(crate) fn call<T: Message + Default + Checked>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
    ) -> Result<T, CliError> {
        let mut answer = None;
        self.stream(service, method, request, &mut |message| answer = Some(message))?;
        answer.ok_or_else(|| self.foreign("an answer without a message"))
    }

    /// Calls until it is answered or the deadline is there. All calls may be repeated: each leaves the
    /// same state behind when it is made twice.
    pub(crate) fn stream<T: Message + Default + Checked>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        on_message: &mut dyn FnMut(T),
    ) -> Result<(), CliError> {
        let path = format!("{service}/{method}");
        let request = SecretBytes::new(request.encode_to_vec());
        let mut pause = Duration::from_millis(5);
        // Since when nobody has listened.
        let mut nobody_since = None;
        loop {
            let failure = match self.attempt(&path, &request, on_message) {
                Ok(()) => return Ok(()),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::TransportError(failure)) => {
                    nobody_since = None;
                    failure
                }
                Err(Attempt::Nobody(failure)) => {
                    nobody_since.get_or_insert_with(Instant::now);
                    failure
                }
            };
            let end = nobody_since.map_or(self.deadline, |since| self.deadline.min(since + NOBODY));
            if Instant::now() + pause >= end || !matches!(self.patience, Deadline::Podman) {
                return Err(failure);
            }
            wait(pause);
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    fn attempt<T: Message + Default + Checked>(
        &self,
        path: &str,
        request: &SecretBytes,
        on_message: &mut dyn FnMut(T),
    ) -> Result<(), Attempt> {
        let stream = self.connect().map_err(|cause| self.no_connection(&cause))?;
        let mut take = |message: &[u8]| {
            let message =
                T::decode(message).map_err(|error| TransportError::Protocol(error.to_string()))?;
            on_message(message.checked().map_err(TransportError::Protocol)?);
            Ok(())
        };
        let ended = wire::call(stream, self.deadline, path, request.expose_secret(), &mut take);
        match ended.map_err(|broken| self.broken(broken))? {
            GrpcStatus { code: 0, .. } => Ok(()),
            status => Err(Attempt::Final(self.judge(&status))),
        }
    }

    /// A socket whose backlog is full must not hold us beyond the deadline.
    fn connect(&self) -> io::Result<UnixStream> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        set_socket_timeout(&socket, Timeout::Send, Some(left.max(Duration::from_millis(1))))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
        Ok(socket.into())
    }

    fn no_connection(&self, cause: &io::Error) -> Attempt {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, WouldBlock};
        let what = format!("no connection to psid at {}: {cause}", self.socket.display());
        match cause.kind() {
            ConnectionRefused | NotFound => Attempt::Nobody(CliError::new(
                Exit::NoDaemon,
                what,
                "start it with `systemctl start psid`",
            )),
            // Its backlog is full.
            WouldBlock => Attempt::TransportError(self.no_answer()),
            PermissionDenied => Attempt::Final(CliError::new(
                Exit::NotAllowed,
                what,
                "run it as a user that [access] allows",
            )),
            _ => Attempt::Final(CliError::new(Exit::NoDaemon, what, "check the socket's path")),
        }
    }

    fn no_answer(&self) -> CliError {
        CliError::new(
            Exit::NoDaemon,
            format!(
                "psid at {} did not answer within {} s",
                self.socket.display(),
                self.patience.limit().as_secs()
            ),
            "see `systemctl status psid`",
        )
    }

    /// The one place that turns a status into an exit code; the codes are gRPC's (doc/statuscodes.md).
    fn judge(&self, status: &GrpcStatus) -> CliError {
        let exit = match status.code {
            // INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION
            3 | 6 | 9 => Exit::BadInput,
            // NOT_FOUND
            5 => Exit::NoSuchSecret,
            // PERMISSION_DENIED
            7 => Exit::NotAllowed,
            // RESOURCE_EXHAUSTED, UNAVAILABLE
            8 | 14 => Exit::TryLater,
            // CANCELLED, DEADLINE_EXCEEDED
            1 | 4 => return self.no_answer(),
            code => {
                return CliError::new(
                    Exit::Protocol,
                    format!("psid answered with status {code}: {}", status.message),
                    "check that psid and psi-driver are of one version, and see `journalctl -u psid`",
                );
            }
        };
        CliError::without_remedy(exit, status.message.as_str())
    }

    fn broken(&self, broken: TransportError) -> Attempt {
        match broken {
            TransportError::Gone(cause) => Attempt::TransportError(CliError::new(
                Exit::NoDaemon,
                format!("psid at {} broke the connection: {cause}", self.socket.display()),
                "see `systemctl status psid`",
            )),
            TransportError::Protocol(cause) => Attempt::Final(self.foreign(&cause)),
            TransportError::Late => Attempt::Final(self.no_answer()),
        }
    }

    fn foreign(&self, cause: &str) -> CliError {
        CliError::new(
            Exit::Protocol,
            format!(
                "what listens at {} does not speak psi's protocol: {cause}",
                self.socket.display()
            ),
            "check PSI_SOCKET, and that psid owns the socket",
        )
    }
}

/// How an attempt ended without an answer.
enum Attempt {
    /// Nothing listens at the socket's path.
    Nobody(CliError),
    /// The daemon went away, or is busy: another attempt may find it.
    TransportError(CliError),
    /// Another attempt would end the same.
    Final(CliError),
}

impl Deadline {
    fn limit(self) -> Duration {
        match self {
            Self::Podman => Duration::from_secs(10),
            Self::Probe => Duration::from_secs(3),
            Self::Admin => Duration::from_secs(600),
            Self::For(span) => span.saturating_add(Duration::from_secs(10)),
        }
    }
}

/// Waits before another look for somebody at a socket.
#[expect(clippy::disallowed_methods, reason = "nothing tells that a daemon will be there again")]
pub(crate) fn wait(pause: Duration) {
    std::thread::sleep(pause);
}
