//! The delivery of an answer's bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::Wire;
use crate::fault::Fault;

/// An encoded answer.
pub struct EncodedAnswer {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Delayed(Duration),
    Dripped { step: usize, pause: Duration },
    Truncated,
    ResetMidBody,
}

impl Delivery {
    pub fn of(fault: Option<&Fault>) -> Self {
        match fault {
            Some(Fault::Delay { ms }) => Self::Delayed(Duration::from_millis(*ms)),
            Some(Fault::SlowDrip { bytes_per_second, delay_ms }) => {
                drip(*bytes_per_second, *delay_ms)
            }
            Some(Fault::Truncate) => Self::Truncated,
            Some(Fault::ResetMidBody) => Self::ResetMidBody,
            _ => Self::Whole,
        }
    }
}

/// A rate above a thousand per second uses larger steps: timers are no finer than that.
fn drip(bytes_per_second: Option<u64>, delay_ms: Option<u64>) -> Delivery {
    let rate = bytes_per_second.unwrap_or(10).max(1);
    let step = (rate / 1000).max(1);
    let pause = delay_ms.unwrap_or(step * 1000 / rate);
    Delivery::Dripped {
        step: usize::try_from(step).unwrap_or(usize::MAX),
        pause: Duration::from_millis(pause),
    }
}

/// An error, or anything but a whole delivery, ends the connection.
pub async fn deliver(
    wire: &mut impl Wire,
    answer: EncodedAnswer,
    delivery: Delivery,
) -> io::Result<()> {
    let EncodedAnswer { head, body } = answer;
    match delivery {
        Delivery::Whole => send(wire, &[head, body].concat()).await,
        Delivery::Delayed(pause) => {
            sleep(pause).await;
            send(wire, &[head, body].concat()).await
        }
        Delivery::Dripped { step, pause } => {
            send(wire, &head).await?;
            for drop in body.chunks(step) {
                // Even an empty sleep lasts until the timer's next millisecond
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                send(wire, drop).await?;
            }
            Ok(())
        }
        Delivery::Truncated => {
            send(wire, &[&head, &body[..body.len() / 2]].concat()).await?;
            wire.shutdown().await?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        Delivery::ResetMidBody => {
            send(wire, &[&head, &body[..body.len() / 2]].concat()).await?;
            reset(wire)?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}

/// From here on, dropping the connection sends a reset instead of a clean end.
pub fn reset(wire: &impl Wire) -> io::Result<()> {
    wire.socket().set_zero_linger()
}

/// Discards all further input until the client disconnects.
pub async fn hang(wire: &mut impl Wire) {
    let mut scratch = [0; 1024];
    while matches!(wire.read(&mut scratch).await, Ok(n) if n > 0) {}
}

async fn send(wire: &mut impl Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write_all(bytes).await?;
    wire.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drip_chooses_step_and_pause_for_the_rate() {
        let dripped = |step, ms| Delivery::Dripped { step, pause: Duration::from_millis(ms) };
        assert_eq!(drip(Some(50), None), dripped(1, 20));
        assert_eq!(drip(Some(8000), None), dripped(8, 1));
        assert_eq!(drip(None, Some(3)), dripped(1, 3));
    }
}
