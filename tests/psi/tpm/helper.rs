//! psid as a user of its own, which systemd-creds does not serve: a helper, started for each connection as
//! `psid-creds.socket` does it, opens and seals in its place.

use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{init, psid_on, world_on};
use crate::harness::{Double, Psid, Tpm, World, id, program};

const PSI: u32 = 1234;

/// The world belongs to the user, and a helper of root's listens in it.
fn hand_over(world: &World, tpm: &Tpm) {
    let etc = world.folder().join("etc");
    for path in [etc.clone(), world.run(), world.state(), world.sealed_key()] {
        chown(path, Some(PSI), Some(PSI)).unwrap();
    }
    for file in std::fs::read_dir(world.state()).unwrap() {
        chown(file.unwrap().path(), Some(PSI), Some(PSI)).unwrap();
    }
    let socket = world.run().join("creds.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    chown(socket, Some(PSI), Some(PSI)).unwrap();
    let device = tpm.device();
    // It ends with the test's process, which holds the last end of the socket.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = OwnedFd::from(stream.unwrap());
            let mut helper = Command::new(program("psid"));
            helper.arg("creds").env("SYSTEMD_TPM2_DEVICE", &device);
            helper.stdin(Stdio::from(stream.try_clone().unwrap())).stdout(Stdio::from(stream));
            helper.spawn().unwrap().wait().unwrap();
        }
    });
}

fn start(world: &World, tpm: &Tpm) -> Psid {
    let user = format!("--reuid={PSI}");
    let group = format!("--regid={PSI}");
    psid_on(world, tpm)
        .without("SYSTEMD_TPM2_DEVICE")
        .through(&["setpriv", &user, &group, "--clear-groups"])
        .start()
}

#[test]
fn a_psid_that_is_not_root_opens_seals_and_recovers_by_its_helper() {
    let mut tpm = Tpm::start();
    let mut double = Double::with(&json!({}));
    let world = world_on(&double);
    let told = init(&world, &tpm, &[]).text();
    let recovery = told.lines().map(str::trim).find(|line| line.len() == 71).unwrap();
    hand_over(&world, &tpm);
    tpm.flush();
    let psid = start(&world, &tpm);
    assert_eq!(psid.degraded(), "");
    world.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    tpm.flush();
    world.driver(&["cache", "rekey"]).ok();
    psid.terminate();
    double.kill();
    tpm.power_cycle();
    tpm.extend(7);
    let psid = start(&world, &tpm);
    let degraded = psid.degraded();
    assert!(degraded.contains("policy digest"), "systemd-creds' own words: {degraded}");
    tpm.flush();
    world.driver(&["cache", "recover"]).stdin(recovery).ok();
    assert_eq!(psid.degraded(), "");
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "a literal");
}
