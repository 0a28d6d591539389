//! The number of writes of podman's record of its secrets.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Map, Value, json};

use psi_harness::Host;

/// Counts writes of `secrets.json`: closed after a write, or replaced.
pub(crate) struct Writes(Inotify);

impl Writes {
    pub(crate) fn of(host: &Host) -> Self {
        let events = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let what = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        events.add_watch(&host.podman.secrets_directory(), what).unwrap();
        Self(events)
    }

    /// The number since the last call.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        loop {
            match self.0.read_events() {
                Ok(events) => {
                    for event in events {
                        assert!(!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
                        count += usize::from(event.name.is_some_and(|name| name == "secrets.json"));
                    }
                }
                Err(Errno::EAGAIN) => return count,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

/// N18: the Python PSI deletes and creates every secret at each run: 1000 writes for 500 secrets.
#[test]
fn n18_setup_writes_each_new_secret_once_and_no_unchanged_one() {
    let secrets: Map<String, Value> =
        (0..100).map(|number| (format!("K{number:03}"), json!("value"))).collect();
    let host = Host::with_myapp(&secrets.into());
    // Podman creates its directory with its first secret.
    host.podman.create("first", "x");
    let writes = Writes::of(&host);
    assert_eq!((host.set_up(&[])["podman_writes"].clone(), writes.count()), (json!(100), 100));
    assert_eq!((host.set_up(&[])["podman_writes"].clone(), writes.count()), (json!(0), 0));
    host.infisical.put("/myapp", "K000", "another value");
    assert_eq!((host.set_up(&[])["podman_writes"].clone(), writes.count()), (json!(0), 0));
    host.infisical.put("/myapp", "NEW", "1");
    assert_eq!((host.set_up(&[])["podman_writes"].clone(), writes.count()), (json!(1), 1));
    assert_eq!(
        (host.lookup("myapp--K000"), host.lookup("myapp--NEW")),
        ("another value".into(), "1".into())
    );
}
