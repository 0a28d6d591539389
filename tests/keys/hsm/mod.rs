//! The hsm backend, with a software token.

mod forged;
mod init;
mod keys;
mod states;

use serde_json::json;

use psi_harness::{Config, Driver, FakeInfisical, Instance, Token, id, reference};

/// An instance whose key comes from `token` only.
fn instance_on(infisical: &FakeInfisical, token: &Token) -> Instance {
    let instance = Instance::of(infisical);
    instance.configure(&Config::of(infisical).hsm(token));
    instance.take_key();
    instance
}

/// A psi-driver command that runs psid, which needs the token.
fn on(token: &Token, driver: Driver) -> Driver {
    token.environment().iter().fold(driver, |driver, (name, value)| driver.env(name, value))
}

/// `psictl cache init --backend hsm` on this token, with more arguments.
fn init(instance: &Instance, token: &Token, more: &[&str]) -> Driver {
    on(token, instance.driver(&[&["cache", "init", "--backend", "hsm"], more].concat()))
}

fn one() -> FakeInfisical {
    FakeInfisical::with(&json!({"/myapp": {"A": "1"}}))
}

/// An instance with a cached value, `id(1)`, and a literal, `id(2)`, encrypted under a key of this
/// token.
fn filled(infisical: &FakeInfisical, token: &Token) -> Instance {
    let instance = instance_on(infisical, token);
    init(&instance, token, &[]).ok();
    let psid = token.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    instance
}
