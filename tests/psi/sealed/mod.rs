//! The token as psi's users meet it: secrets that are sealed to it, what psid tells of it, and the check
//! of all that lies between.

mod lookup;
mod preflight;
mod status;
mod store;

use crate::harness::{Config, Driver, Psid, Token, World, id};

/// A psi whose one provider is a token; the cache has a key of its own.
pub(crate) struct Stage {
    /// The token.
    pub(crate) token: Token,
    /// The files.
    pub(crate) world: World,
}

impl Stage {
    /// With this token.
    pub(crate) fn with(token: Token) -> Self {
        let world = World::empty();
        world.give_key(&[7; 32]);
        let stage = Self { token, world };
        stage.world.configure(&stage.config());
        stage
    }

    /// With a token that does all that psi needs.
    pub(crate) fn new() -> Self {
        Self::with(Token::kryoptic())
    }

    /// The config.
    pub(crate) fn config(&self) -> Config {
        Config {
            cache: "backend = \"tpm\"\n".into(),
            access: String::new(),
            infisical: String::new(),
            auth: String::new(),
            rest: self.token.config(),
        }
    }

    /// A psid that is ready.
    #[track_caller]
    pub(crate) fn start(&self) -> Psid {
        self.token.on(self.world.psid()).start()
    }

    /// A call of psi-driver that finds the token, should it become psid.
    pub(crate) fn driver(&self, args: &[&str]) -> Driver {
        let driver = self.world.driver(args);
        let environment = self.token.environment();
        environment.iter().fold(driver, |driver, (name, value)| driver.env(name, value))
    }

    /// Has psid seal a secret; the reference.
    #[track_caller]
    pub(crate) fn seal(&self, secret: impl AsRef<[u8]>) -> String {
        reference_in(&self.driver(&["hsm", "store", "boot"]).stdin(secret).text())
    }

    /// Registers what podman would be given.
    #[track_caller]
    pub(crate) fn register(&self, number: u32, reference: &str) {
        self.driver(&["store"]).id(id(number)).stdin(reference).ok();
    }

    /// A lookup that is not made yet.
    pub(crate) fn lookup(&self, number: u32) -> Driver {
        self.driver(&["lookup"]).id(id(number))
    }
}

/// The reference in the command that `hsm store boot` prints.
#[track_caller]
fn reference_in(command: &str) -> String {
    let reference = command
        .strip_prefix("printf %s '")
        .and_then(|rest| rest.strip_suffix("' | podman secret create boot -\n"));
    reference.unwrap_or_else(|| panic!("{command}")).to_owned()
}
