//! How often podman's record of its secrets is written.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use serde_json::{Map, Value, json};

use psi_harness::Host;

/// Counts writes of `secrets.json`: closed after a write, or replaced.
pub(crate) struct Writes(OwnedFd);

impl Writes {
    pub(crate) fn of(host: &Host) -> Self {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, host.podman.secrets_folder(), what).unwrap();
        Self(fd)
    }

    /// Since the last call.
    pub(crate) fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 65_536];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        // Nothing more to read is an error, EAGAIN.
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            count += usize::from(event.file_name() == Some(c"secrets.json"));
        }
        count
    }
}

/// N18: the Python PSI deletes and creates every secret at each run, 1000 writes for 500 secrets.
#[test]
fn n18_each_new_secret_is_one_write_and_unchanged_ones_are_none() {
    let secrets: Map<String, Value> =
        (0..100).map(|number| (format!("K{number:03}"), json!("value"))).collect();
    let host = Host::with_myapp(&secrets.into());
    // Podman makes its folder with its first secret.
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
