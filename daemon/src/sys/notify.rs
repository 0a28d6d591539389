//! State notifications to systemd (sd_notify(3)). Outside of systemd they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// How often systemd is asked for more time.
const EXTEND_INTERVAL: Duration = Duration::from_secs(10);

/// Reports that key and socket are ready.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the text that `systemctl status` shows. It stays when the process ends.
pub(crate) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Reports that the config is being read again; [`ready`] ends that.
pub(crate) fn reloading() {
    if let Ok(since) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, since]);
    }
}

/// Asks for more time to start until it is dropped.
pub(crate) async fn extend_timeout(status: &str) {
    loop {
        let time = u32::try_from(2 * EXTEND_INTERVAL.as_micros()).unwrap_or(u32::MAX);
        send(&[NotifyState::ExtendTimeoutUsec(time), NotifyState::Status(status)]);
        let _ = tokio::time::timeout(EXTEND_INTERVAL, std::future::pending::<()>()).await;
    }
}

/// Reports that the daemon is stopping.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("writing the cache and stopping")]);
}

/// Notifies systemd's watchdog at half of its interval until `stop`, as long as `is_healthy` returns true. It
/// waits for that answer, so systemd ends a psid that does not give one.
pub(crate) async fn keep_alive<F: Future<Output = bool>>(
    stop: CancellationToken,
    is_healthy: impl Fn() -> F,
) {
    let Some(interval) =
        sd_notify::watchdog_enabled().filter(|interval| *interval > Duration::ZERO)
    else {
        return;
    };
    while tokio::time::timeout(interval / 2, stop.cancelled()).await.is_err() {
        if is_healthy().await {
            send(&[NotifyState::Watchdog]);
        }
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd could not be notified: {error}");
    }
}
