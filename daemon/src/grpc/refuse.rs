//! Answers every call with one error. A daemon that cannot start with its config answers the callers that systemd's
//! socket holds for it, instead of leaving them to their timeout.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;

/// How long it waits for another call: less than the pause in which one client comes back.
const IDLE: Duration = Duration::from_secs(1);
/// How long it answers at most. Then the process ends, and systemd shows its failure.
const LIMIT: Duration = Duration::from_secs(10);
/// The interval of looks at the time of the last call.
const LOOK: Duration = Duration::from_millis(100);

/// Answers each call with `why`, until there is none for a second.
pub(crate) async fn refuse(listener: Option<UnixListener>, why: String) -> Result<(), String> {
    let Some(listener) = listener else { return Ok(()) };
    let listener =
        tokio::net::UnixListener::from_std(listener).map_err(|error| error.to_string())?;
    let began = Instant::now();
    let last = Arc::new(Mutex::new(began));
    let of_call = Arc::clone(&last);
    let answer = InterceptorLayer::new(move |_| {
        *of_call.lock() = Instant::now();
        Err(Status::failed_precondition(why.as_str()))
    });
    let (_, health) = tonic_health::server::health_reporter();
    let idle = async move {
        while last.lock().elapsed() < IDLE && began.elapsed() < LIMIT {
            let _ = tokio::time::timeout(LOOK, std::future::pending::<()>()).await;
        }
    };
    let served = Server::builder()
        .layer(answer)
        .add_service(health)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), idle);
    // Open connections do not keep it: the answers were sent.
    match tokio::time::timeout(LIMIT + IDLE, served).await {
        Ok(served) => served.map_err(|error| error.to_string()),
        Err(_) => Ok(()),
    }
}
