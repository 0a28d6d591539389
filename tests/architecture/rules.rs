//! The layers of the crates, and the modules that may import less than their layer allows.

/// A crate's layers, the lowest first. Directories of one layer do not import each other.
pub(crate) type Layers = &'static [&'static [&'static str]];

pub(crate) const DAEMON: Layers = &[
    &["sys"],
    &["crypto", "model"],
    &["cache"],
    &["storage"],
    &["keys"],
    &["provider"],
    &["config", "registry"],
    &["lookup"],
    &["refresh", "workloads", "import", "legacy", "trail"],
    &["grpc"],
    &["runtime"],
    &["cli"],
    // The tests' façade: it exports the crate, and nothing of the crate may use it.
    &["testing"],
];

/// What podman runs is below `ctl`, which is psictl.
pub(crate) const DRIVER: Layers = &[
    &["error"],
    &["stdio"],
    &["wire"],
    &["client"],
    &["args", "psictl"],
    &["verbs"],
    &["ctl"],
    &["testing"],
];

/// Modules that may import less than their layer allows, each with all that it may import besides itself.
/// A name that ends with `::` stands for a module and those below it.
pub(crate) const ALLOWED: &[(&str, &[&str])] = &[
    ("cache::", &["model::"]),
    (
        "config::",
        &[
            "keys::credential",
            "keys::pkcs11",
            "provider",
            "provider::infisical",
            "provider::upstream",
        ],
    ),
    ("crypto::aead", &[]),
    ("crypto::envelope", &["crypto::aead"]),
    ("crypto::hybrid", &["crypto::aead"]),
    ("crypto::recovery_key", &["crypto::aead"]),
    ("crypto::rsa", &[]),
    (
        "import::",
        &["lookup", "model::clock", "provider", "provider::circuit_breaker", "provider::upstream"],
    ),
    (
        "keys::",
        &["crypto::aead", "crypto::rsa", "model::reach", "storage::failed_logins", "sys::files"],
    ),
    ("keys::credential::", &["sys::files"]),
    (
        "keys::pkcs11::",
        &["crypto::rsa", "keys::credential", "model::reach", "storage::failed_logins"],
    ),
    ("legacy", &["crypto::aead", "crypto::hybrid", "legacy::mapping", "model::"]),
    ("legacy::mapping", &["model::reference"]),
    (
        "lookup::",
        &[
            "cache::",
            "model::",
            "provider",
            "provider::circuit_breaker",
            "provider::upstream",
            "registry::",
            "sys::tasks",
        ],
    ),
    ("lookup::outage_drill", &["provider"]),
    ("lookup::readiness", &[]),
    ("lookup::single_flight", &[]),
    ("model::clock", &["sys::clock"]),
    ("model::reach", &[]),
    ("model::reference", &[]),
    ("provider::circuit_breaker", &["model::clock"]),
    (
        "provider::infisical::",
        &[
            "cache",
            "keys::credential",
            // A client certificate's key may be on the token.
            "keys::pkcs11",
            "model::",
            "provider",
            "storage::failed_logins",
            "sys::jitter",
        ],
    ),
    (
        "provider::pkcs11_sealed",
        &[
            "cache",
            "crypto::aead",
            "crypto::hybrid",
            "crypto::rsa",
            "keys::pkcs11",
            "model::",
            "provider",
        ],
    ),
    ("provider::upstream::", &["model::", "provider", "provider::circuit_breaker", "sys::jitter"]),
    (
        "refresh::",
        &[
            "cache",
            "lookup",
            "model::",
            "provider",
            "provider::circuit_breaker",
            "provider::upstream",
            "sys::tasks",
        ],
    ),
    (
        "registry::",
        &[
            "cache",
            "crypto::envelope",
            "crypto::keyring",
            "model::",
            "provider",
            "provider::upstream",
            "sys::files",
        ],
    ),
    ("registry::reference_file", &[]),
    // Not the shared cache: a hit waits for no lock.
    ("registry::resolved", &["cache", "model::", "provider", "provider::upstream"]),
    ("storage::boot_id", &["cache", "sys::files"]),
    (
        "storage::cache_file",
        &[
            "cache::",
            "crypto::envelope",
            "crypto::keyring",
            "model::clock",
            "storage::payload",
            "sys::files",
        ],
    ),
    (
        "storage::failed_logins",
        &["model::clock", "storage::boot_id", "storage::failed_logins::table", "sys::files"],
    ),
    ("storage::failed_logins::table", &["model::clock", "storage::failed_logins", "sys::files"]),
    ("storage::payload", &["cache", "crypto::envelope", "model::"]),
    ("sys::notify", &[]),
    ("sys::tasks", &[]),
    ("sys::unit_of_cgroup", &[]),
    ("trail::", &["lookup", "model::clock"]),
    (
        "workloads::",
        &[
            "cache",
            "lookup",
            "lookup::kube",
            "lookup::kube::document",
            "model::",
            "provider",
            "provider::circuit_breaker",
            "provider::upstream",
            "registry",
        ],
    ),
];

/// The same of psictl: `psictl init` runs the commands that it names, and shares no code with them but this.
pub(crate) const ALLOWED_IN_DRIVER: &[(&str, &[&str])] = &[
    (
        "ctl::init::",
        &[
            "client",
            "ctl",
            "ctl::args::",
            // Two of its steps are the halves of one command.
            "ctl::install",
            "ctl::json",
            "ctl::keys",
            "ctl::podman",
            "ctl::psid",
            "ctl::seal",
            "ctl::setup",
            "ctl::systemctl",
            "error",
            "stdio",
        ],
    ),
    // What is planned depends on what was found, and finds nothing itself.
    (
        "ctl::init::plan",
        &[
            "ctl::args",
            "ctl::init::choices",
            "ctl::init::config_text",
            "ctl::init::host",
            "ctl::init::service",
        ],
    ),
    ("ctl::init::checks", &["ctl::args"]),
    ("ctl::init::config_text", &[]),
    ("ctl::init::settings", &[]),
];
