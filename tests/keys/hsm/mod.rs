//! The hsm backend, with a token in software.

mod forged;
mod init;
mod keys;
mod states;

use serde_json::json;

use psi_harness::{Config, Driver, FakeInfisical, Token, World, id, reference};

/// A world whose only key is to come from `token`.
fn world_on(infisical: &FakeInfisical, token: &Token) -> World {
    let world = World::of(infisical);
    world.configure(&Config::of(infisical).hsm(token));
    world.take_key();
    world
}

/// A call of psi-driver that runs psid in its place, which needs the token.
fn on(token: &Token, driver: Driver) -> Driver {
    token.environment().iter().fold(driver, |driver, (name, value)| driver.env(name, value))
}

/// `psi-driver cache init --backend hsm` on this token, with more arguments.
fn init(world: &World, token: &Token, more: &[&str]) -> Driver {
    on(token, world.driver(&[&["cache", "init", "--backend", "hsm"], more].concat()))
}

fn one() -> FakeInfisical {
    FakeInfisical::with(&json!({"/myapp": {"A": "1"}}))
}

/// A world with a cached value, `id(1)`, and a literal, `id(2)`, sealed under a key of this token.
fn filled(infisical: &FakeInfisical, token: &Token) -> World {
    let world = world_on(infisical, token);
    init(&world, token, &[]).ok();
    let psid = token.on(world.psid()).start();
    assert_eq!(psid.degraded(), "");
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    world.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    world.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    world
}
