//! The state of the TPM: whether a credential that does not open may open later.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::oneshot;

/// A TPM answers the query in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The TPM behind the kernel's resource manager, which allows concurrent use.
const DEVICE: &str = "/dev/tpmrm0";
/// A complete response has 167 bytes.
const MAX_RESPONSE: usize = 4096;

/// The state of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmState {
    /// It answers, and accepts authorizations.
    Ready(Lockout),
    /// It refuses all authorizations after too many failed ones.
    Locked(Lockout),
    /// There is no TPM.
    Missing(String),
    /// It is busy, or another process uses it.
    Busy(String),
    /// It does not answer.
    Silent(String),
    /// It reports that it does not work.
    Broken(String),
    /// It cannot be queried.
    Unknown(String),
}

/// The TPM's protection against guessing (TPM 2.0, part 1, "dictionary attack protection").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lockout {
    /// Failed authorizations; power losses count too.
    pub failed: u32,
    /// How many lock it.
    pub max: u32,
    /// Seconds until one is forgotten.
    pub interval: u32,
}

/// The connection to the TPM.
enum Device {
    Path(String),
    Unix(String),
    Tcp(String, u16),
}

/// Queries the TPM that systemd-creds(1) uses.
pub(super) async fn query() -> TpmState {
    static IS_RUNNING: AtomicBool = AtomicBool::new(false);
    if IS_RUNNING.swap(true, Ordering::SeqCst) {
        return TpmState::Silent("it has not answered an earlier query yet".into());
    }
    let (answer, answered) = oneshot::channel();
    // Not a blocking task of the runtime, whose shutdown would wait for a TPM that does not answer.
    let started = std::thread::Builder::new().name("tpm".into()).spawn(move || {
        let state = state();
        IS_RUNNING.store(false, Ordering::SeqCst);
        let _ = answer.send(state);
    });
    if let Err(error) = started {
        IS_RUNNING.store(false, Ordering::SeqCst);
        return TpmState::Unknown(format!("a thread cannot be started: {error}"));
    }
    match tokio::time::timeout(TIMEOUT, answered).await {
        Ok(Ok(state)) => state,
        Ok(Err(_)) => TpmState::Unknown("the thread of the query ended".into()),
        Err(_) => TpmState::Silent(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

fn state() -> TpmState {
    let device = device();
    exchange(&device, &command()).map_or_else(
        |error| of_errno(&device, &error),
        |response| {
            parse(&response)
                .unwrap_or_else(|| TpmState::Unknown("its response is malformed".into()))
        },
    )
}

/// The device, by the variable that systemd reads.
fn device() -> Device {
    #[expect(
        clippy::disallowed_methods,
        reason = "a variable of systemd, which systemd-creds(1) reads too"
    )]
    let named = std::env::var("SYSTEMD_TPM2_DEVICE").unwrap_or_default();
    let option = |options: &str, name: &str| {
        options
            .split(',')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    match named.split_once(':') {
        Some(("swtpm", options)) => match (option(options, "path"), option(options, "port")) {
            (Some(path), _) => Device::Unix(path),
            (None, port) => Device::Tcp(
                option(options, "host").unwrap_or_else(|| "127.0.0.1".into()),
                port.and_then(|port| port.parse().ok()).unwrap_or(2321),
            ),
        },
        Some(("device", path)) => Device::Path(path.into()),
        _ if named.starts_with('/') => Device::Path(named),
        _ => Device::Path(DEVICE.into()),
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) | Self::Unix(path) => f.write_str(path),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// `TPM2_GetCapability` of `TPM_CAP_TPM_PROPERTIES`, from `TPM_PT_PERMANENT` to `TPM_PT_LOCKOUT_RECOVERY`.
fn command() -> Vec<u8> {
    let mut command = Vec::with_capacity(22);
    command.extend(0x8001_u16.to_be_bytes());
    for number in [22, 0x17a, 6, PERMANENT, LOCKOUT_RECOVERY - PERMANENT + 1] {
        command.extend(u32::to_be_bytes(number));
    }
    command
}

const PERMANENT: u32 = 0x200;
const IN_LOCKOUT: u32 = 1 << 9;
const LOCKOUT_COUNTER: u32 = 0x20e;
const MAX_AUTH_FAIL: u32 = 0x20f;
const LOCKOUT_INTERVAL: u32 = 0x210;
const LOCKOUT_RECOVERY: u32 = 0x211;

fn exchange(device: &Device, command: &[u8]) -> io::Result<Vec<u8>> {
    match device {
        Device::Path(path) => {
            transact(&mut OpenOptions::new().read(true).write(true).open(path)?, command)
        }
        Device::Unix(path) => transact(&mut UnixStream::connect(path)?, command),
        Device::Tcp(host, port) => {
            transact(&mut TcpStream::connect((host.as_str(), *port))?, command)
        }
    }
}

/// Sends a command and reads the response. The kernel requires one write and returns the response in one read; a
/// socket may return it in parts.
fn transact(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(command)?;
    let mut response = Vec::new();
    let mut buffer = [0; MAX_RESPONSE];
    loop {
        let count = stream.read(&mut buffer)?;
        response.extend_from_slice(&buffer[..count]);
        let length =
            response.get(2..6).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let expected = length
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length <= MAX_RESPONSE);
        if count == 0
            || response.len() > MAX_RESPONSE
            || expected.is_some_and(|expected| response.len() >= expected)
        {
            return Ok(response);
        }
    }
}

fn of_errno(device: &Device, error: &io::Error) -> TpmState {
    let why = format!("{device}: {error}");
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::ECONNREFUSED) => {
            TpmState::Missing(why)
        }
        Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR) => TpmState::Busy(why),
        Some(Errno::ETIME | Errno::ETIMEDOUT) => TpmState::Silent(why),
        _ if error.kind() == ErrorKind::UnexpectedEof => TpmState::Silent(why),
        _ => TpmState::Unknown(why),
    }
}

/// Parses a response; `None` if it is malformed.
fn parse(response: &[u8]) -> Option<TpmState> {
    let number = |at: usize| response.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    match number(6)? {
        0 => {}
        // TPM_RC_INITIALIZE, TPM_RC_FAILURE, TPM_RC_UPGRADE
        code @ (0x100 | 0x101 | 0x12d) => {
            return Some(TpmState::Broken(format!("it answers {code:#x}")));
        }
        // TPM_RC_LOCKOUT
        0x921 => return Some(TpmState::Locked(Lockout::default())),
        // The other warnings: out of memory or handles, testing, retry.
        code if code & 0xf00 == 0x900 => {
            return Some(TpmState::Busy(format!("it answers {code:#x}")));
        }
        code => return Some(TpmState::Unknown(format!("it answers {code:#x}"))),
    }
    let count = usize::try_from(number(15)?).ok()?.min(64);
    let pairs =
        (0..count).filter_map(|pair| Some((number(19 + 8 * pair)?, number(23 + 8 * pair)?)));
    let (mut permanent, mut lockout) = (None, Lockout::default());
    for (property, value) in pairs {
        match property {
            PERMANENT => permanent = Some(value),
            LOCKOUT_COUNTER => lockout.failed = value,
            MAX_AUTH_FAIL => lockout.max = value,
            LOCKOUT_INTERVAL => lockout.interval = value,
            _ => {}
        }
    }
    let is_locked = permanent? & IN_LOCKOUT != 0;
    Some(if is_locked { TpmState::Locked(lockout) } else { TpmState::Ready(lockout) })
}

impl TpmState {
    /// One line, for the response of the helper.
    pub(super) fn to_line(&self) -> String {
        let numbers =
            |Lockout { failed, max, interval }: &Lockout| format!("{failed} {max} {interval}");
        match self {
            Self::Ready(lockout) => format!("ready {}", numbers(lockout)),
            Self::Locked(lockout) => format!("locked {}", numbers(lockout)),
            Self::Missing(why) => format!("missing {why}"),
            Self::Busy(why) => format!("busy {why}"),
            Self::Silent(why) => format!("silent {why}"),
            Self::Broken(why) => format!("broken {why}"),
            Self::Unknown(why) => format!("unknown {why}"),
        }
    }

    pub(super) fn from_line(line: &str) -> Self {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let lockout = || {
            let mut numbers = rest.split(' ').map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            Some(Lockout { failed: next()?, max: next()?, interval: next()? })
        };
        let state = match name {
            "ready" => lockout().map(Self::Ready),
            "locked" => lockout().map(Self::Locked),
            "missing" => Some(Self::Missing(rest.into())),
            "busy" => Some(Self::Busy(rest.into())),
            "silent" => Some(Self::Silent(rest.into())),
            "broken" => Some(Self::Broken(rest.into())),
            "unknown" => Some(Self::Unknown(rest.into())),
            _ => None,
        };
        state.unwrap_or_else(|| Self::Unknown("the helper's response is malformed".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(code: u32, properties: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0x80, 1, 0, 0, 0, 0];
        bytes.extend(code.to_be_bytes());
        bytes.push(1);
        bytes.extend(6_u32.to_be_bytes());
        bytes.extend(u32::try_from(properties.len()).unwrap().to_be_bytes());
        for (property, value) in properties {
            bytes.extend(property.to_be_bytes());
            bytes.extend(value.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn parse_reads_the_lockout_bit_and_not_the_counter() {
        let counted = [(LOCKOUT_COUNTER, 3), (MAX_AUTH_FAIL, 31), (LOCKOUT_INTERVAL, 600)];
        let lockout = Lockout { failed: 3, max: 31, interval: 600 };
        for (bits, state) in [(0x400, TpmState::Ready(lockout)), (0x600, TpmState::Locked(lockout))]
        {
            let properties = [&[(PERMANENT, bits)], counted.as_slice()].concat();
            assert_eq!(parse(&response(0, &properties)), Some(state));
        }
        assert_eq!(parse(&response(0, &counted)), None, "no lockout bit");
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn parse_reads_response_codes() {
        let of = |code| parse(&response(code, &[])).unwrap();
        assert!(matches!(of(0x922), TpmState::Busy(_)), "TPM_RC_RETRY");
        assert!(matches!(of(0x902), TpmState::Busy(_)), "TPM_RC_OBJECT_MEMORY");
        assert!(matches!(of(0x921), TpmState::Locked(_)));
        assert!(matches!(of(0x101), TpmState::Broken(_)));
        assert!(matches!(of(0x143), TpmState::Unknown(_)), "TPM_RC_COMMAND_CODE");
    }

    #[test]
    fn errno_distinguishes_a_missing_tpm_from_a_busy_one() {
        let of =
            |errno: Errno| of_errno(&Device::Path("/dev/tpmrm0".into()), &io::Error::from(errno));
        assert_eq!(
            of(Errno::ENOENT),
            TpmState::Missing("/dev/tpmrm0: No such file or directory (os error 2)".into())
        );
        assert!(matches!(of(Errno::ENODEV), TpmState::Missing(_)));
        assert!(matches!(of(Errno::EBUSY), TpmState::Busy(_)));
        assert!(matches!(of(Errno::ETIME), TpmState::Silent(_)));
        assert!(matches!(of(Errno::EACCES), TpmState::Unknown(_)));
        assert!(matches!(of(Errno::EIO), TpmState::Unknown(_)));
    }

    #[test]
    fn line_of_a_state_is_parsed_back() {
        let lockout = Lockout { failed: 1, max: 2, interval: 3 };
        for state in [
            TpmState::Ready(lockout),
            TpmState::Locked(lockout),
            TpmState::Missing("/dev/tpmrm0: gone".into()),
            TpmState::Busy("b".into()),
            TpmState::Silent("s".into()),
            TpmState::Broken("it answers 0x101".into()),
            TpmState::Unknown("u".into()),
        ] {
            assert_eq!(TpmState::from_line(&state.to_line()), state);
        }
        for line in ["", "ready", "locked 1 2", "locked 1 2 x", "well 1 2 3"] {
            assert!(matches!(TpmState::from_line(line), TpmState::Unknown(_)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), line: String) {
            let _ = parse(&bytes);
            let _ = TpmState::from_line(&line);
        }
    }
}
