//! Sockets: connections, and the faults of their delivery.

pub mod client_certificate;
pub mod connection;
pub mod delivery;
pub mod gate;
pub mod tls;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The two ports under test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublicPort {
    /// Infisical's
    #[default]
    Api,
    /// The clouds'
    Metadata,
}

/// A connection, with or without TLS.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn socket(&self) -> &TcpStream;

    /// The client's certificates, as the proxy passes them on.
    fn client_certificate(&self) -> Option<String> {
        None
    }
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn client_certificate(&self) -> Option<String> {
        self.get_ref().1.peer_certificates().map(client_certificate::header)
    }
}
