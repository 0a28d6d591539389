//! The public port. It can be closed and opened again; the command is answered when that has
//! happened.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::PublicPort;
use super::connection::converse;
use crate::fake::Shared;

/// Controls the port for the control API.
#[derive(Clone)]
pub struct Gate {
    commands: mpsc::Sender<Command>,
}

struct Command {
    open: bool,
    done: oneshot::Sender<io::Result<()>>,
}

impl Gate {
    /// When closed, connects are refused and live connections have ended.
    pub async fn set_open(&self, open: bool) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let gone = |_| io::Error::other("the public port's task has ended");
        let command = Command { open, done };
        self.commands
            .send(command)
            .await
            .map_err(|_| io::Error::other("the public port's task has ended"))?;
        answer.await.map_err(gone)?
    }
}

/// Binds the port and serves it from its own task.
pub async fn open(
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Shared,
    face: PublicPort,
) -> io::Result<(Gate, SocketAddr)> {
    // Sets SO_REUSEADDR, so that a fake can follow another on the same port at once
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (commands, inbox) = mpsc::channel(1);
    let port =
        Port { address, listener: Some(listener), connections: JoinSet::new(), tls, shared, face };
    tokio::spawn(port.serve(inbox));
    Ok((Gate { commands }, address))
}

struct Port {
    address: SocketAddr,
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
    tls: Option<TlsAcceptor>,
    shared: Shared,
    face: PublicPort,
}

impl Port {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = inbox.recv() => {
                    let Some(command) = command else { return };
                    let outcome = self.obey(command.open).await;
                    // The caller may have disconnected
                    let _ = command.done.send(outcome);
                }
                accepted = accept(self.listener.as_ref()) => {
                    if let Ok((stream, peer)) = accepted {
                        self.welcome(stream, peer);
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn obey(&mut self, open: bool) -> io::Result<()> {
        if open && self.listener.is_none() {
            self.listener = Some(TcpListener::bind(self.address).await?);
        }
        if !open {
            self.listener = None;
            self.connections.shutdown().await;
        }
        Ok(())
    }

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (shared, face) = (self.shared.clone(), self.face);
        shared.lock().journal.stats.connections += 1;
        // Answers are one write; a delay would only slow the tests
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            None => self.connections.spawn(converse(stream, peer.ip(), shared, face)),
            Some(tls) => self.connections.spawn(async move {
                // A client that does not trust the certificate disconnects during the handshake
                if let Ok(stream) = tls.accept(stream).await {
                    converse(stream, peer.ip(), shared, face).await;
                }
            }),
        };
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
