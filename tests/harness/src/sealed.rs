//! A psi with a PKCS#11 token as its only provider.

use crate::{Config, Driver, Instance, Psid, Token, id};

/// A psi with a token as its only provider; the cache has a key of its own.
pub struct SealedFixture {
    /// The token.
    pub token: Token,
    /// The files.
    pub instance: Instance,
}

impl SealedFixture {
    /// With this token.
    pub fn with(token: Token) -> Self {
        let instance = Instance::empty();
        instance.give_key(&[7; 32]);
        let fixture = Self { token, instance };
        fixture.instance.configure(&fixture.config());
        fixture
    }

    /// With a token that supports everything that psi needs.
    pub fn with_kryoptic() -> Self {
        Self::with(Token::kryoptic())
    }

    /// The config.
    pub fn config(&self) -> Config {
        Config {
            cache: "backend = \"tpm\"\n".into(),
            infisical: String::new(),
            auth: String::new(),
            rest: self.token.config(),
        }
    }

    /// A psid that is ready.
    #[track_caller]
    pub fn start(&self) -> Psid {
        self.token.on(self.instance.psid()).start()
    }

    /// A psi-driver call that passes on the token's variables, for when it runs psid.
    pub fn driver(&self, args: &[&str]) -> Driver {
        let driver = self.instance.driver(args);
        let environment = self.token.environment();
        environment.iter().fold(driver, |driver, (name, value)| driver.env(name, value))
    }

    /// Seals a secret by psid; returns the reference.
    #[track_caller]
    pub fn seal(&self, secret: impl AsRef<[u8]>) -> String {
        reference_in(&self.driver(&["hsm", "store", "boot"]).stdin(secret).text())
    }

    /// Registers a reference as podman would.
    #[track_caller]
    pub fn register(&self, number: u32, reference: &str) {
        self.driver(&["store"]).id(id(number)).stdin(reference).ok();
    }

    /// A lookup that is not made yet.
    pub fn lookup(&self, number: u32) -> Driver {
        self.driver(&["lookup"]).id(id(number))
    }
}

/// The reference in the command that `hsm store boot` prints.
#[track_caller]
pub fn reference_in(command: &str) -> String {
    let reference = command
        .strip_prefix("printf %s '")
        .and_then(|rest| rest.strip_suffix("' | podman secret create boot -\n"));
    reference.unwrap_or_else(|| panic!("{command}")).to_owned()
}
