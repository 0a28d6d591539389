//! From the command line to three listening ports.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Cli;
use crate::clock::Clock;
use crate::control::Control;
use crate::fake::{FakeInfisical, Shared};
use crate::net::{PublicPort, gate, tls};
use crate::state::State;

/// Serves until SIGTERM or SIGINT.
pub fn run() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(cli))
}

async fn serve(cli: Cli) -> Result<(), Box<dyn Error>> {
    // Before the announcement: its reader may send a signal at once
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let state = match &cli.seed {
        Some(file) => read_seed(file)?,
        None => State::default(),
    };
    let state = without_circles(state.settle(Clock::default().now()))?;
    let shared = Shared::new(FakeInfisical::new(cli.dialect, state));
    let (acceptor, ca) = match (cli.tls, &cli.tls_dir) {
        (Some(certificate), Some(directory)) => {
            let (acceptor, ca) = tls::prepare(certificate, directory)?;
            (Some(acceptor), Some(ca))
        }
        _ => (None, None),
    };
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let (gate, public) = gate::open(cli.listen, acceptor, shared.clone(), PublicPort::Api).await?;
    let (near, metadata) =
        gate::open(cli.metadata, None, shared.clone(), PublicPort::Metadata).await?;
    let listener = TcpListener::bind(cli.control).await?;
    let control = listener.local_addr()?;
    tokio::spawn(Control::new(shared, gate, near).serve(listener));

    announce(&json!({
        "url": format!("{scheme}://{public}"),
        "metadata": format!("http://{metadata}"),
        "control": format!("http://{control}"),
        "ca": ca,
    }))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn without_circles(state: State) -> Result<State, Box<dyn Error>> {
    match state.projects.iter().find(|project| project.circles()) {
        Some(project) => Err(format!("the imports of project {} circle", project.id).into()),
        None => Ok(state),
    }
}

fn read_seed(file: &Path) -> Result<State, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?)
}

fn announce(line: &serde_json::Value) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
