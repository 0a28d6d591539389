//! Concurrent calls of several podmans, or of one that retries.

use std::thread;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, id};

#[test]
fn concurrent_stores_under_different_ids_are_all_kept() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    thread::scope(|scope| {
        for number in 0..16 {
            let store =
                instance.driver(&["store"]).id(id(number)).stdin(format!("literal {number}"));
            scope.spawn(move || assert_eq!(store.text(), ""));
        }
    });
    psid.crash();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["list"]).text().lines().count(), 16);
    for number in 0..16 {
        let value = instance.driver(&["lookup"]).id(id(number)).text();
        assert_eq!(value, format!("literal {number}"));
    }
}

#[test]
fn concurrent_stores_under_one_id_have_one_winner() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let winners: Vec<_> = thread::scope(|scope| {
        let stores: Vec<_> = (0..8)
            .map(|number| {
                let value = format!("literal {number}");
                let store = instance.driver(&["store"]).id(id(1)).stdin(&value);
                scope.spawn(move || match store.run() {
                    outcome if outcome.code == 0 => Some(value),
                    outcome => {
                        assert_eq!(outcome.code, 65, "{}", outcome.stderr);
                        None
                    }
                })
            })
            .collect();
        stores.into_iter().filter_map(|store| store.join().unwrap()).collect()
    });
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), winners[0]);
    psid.crash();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), winners[0]);
}

/// `--replace` deletes and stores; two of them at once must leave one complete secret or none.
#[test]
fn concurrent_deletes_and_stores_keep_ram_and_disk_consistent() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    thread::scope(|scope| {
        for verb in ["store", "delete", "store", "delete"] {
            let call = instance.driver(&[verb]).id(id(1)).stdin("a literal");
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(call.run().code, 0);
                }
            });
        }
    });
    let in_ram = instance.driver(&["list"]).text();
    psid.crash();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["list"]).text(), in_ram);
}
