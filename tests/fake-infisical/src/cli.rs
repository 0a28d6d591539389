//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::dialect::Dialect;

/// A faithful fake of the Infisical server.
///
/// Prints one JSON line, {"url", "metadata", "control", "ca"}, once the ports are bound, and serves until
/// SIGTERM or SIGINT.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    /// Where the Infisical API listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Where the control API listens
    #[arg(long, default_value = "127.0.0.1:0")]
    pub control: SocketAddr,

    /// Where the metadata services of three clouds listen
    #[arg(long, default_value = "127.0.0.1:0")]
    pub metadata: SocketAddr,

    /// The state to start with; without it the state is empty
    #[arg(long, value_name = "FILE.json")]
    pub seed: Option<PathBuf>,

    /// The generation of server to imitate
    #[arg(long, value_enum, default_value = "v4-2026")]
    pub dialect: Dialect,

    /// Serve HTTPS, with a certificate of this kind
    #[arg(long, value_enum, requires = "tls_dir")]
    pub tls: Option<Certificate>,

    /// Where to write ca.pem, the authority a client should trust
    #[arg(long, requires = "tls")]
    pub tls_dir: Option<PathBuf>,
}

/// What is right or wrong with the certificate that `--tls` presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Certificate {
    /// Signed by ca.pem
    Valid,
    /// Signed by ca.pem, but no longer valid
    Expired,
    /// Signed by another authority than ca.pem
    WrongCa,
}
