//! The bodies of a user's request and of its answer: the request must arrive whole in time and within the user's share
//! of bytes, and the call counts until its answer was sent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use psi_proto::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::limits::{CallsPlace, Unfinished, UserCall};

/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request.
pub(super) struct LimitedBody {
    body: tonic::body::Body,
    unfinished: Unfinished,
    timer: Pin<Box<Sleep>>,
}

impl LimitedBody {
    /// The time begins now.
    pub(super) fn new(body: tonic::body::Body, unfinished: Unfinished) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + REQUEST_TIMEOUT));
        Self { body, unfinished, timer }
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(this.unfinished.add(bytes).map(|()| frame)))
            }
            Poll::Pending if this.timer.as_mut().poll(context).is_ready() => {
                let late = "the request did not arrive within 10 s; send it again";
                Poll::Ready(Some(Err(Status::deadline_exceeded(late))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with the call that it belongs to. What it sends holds the call's place until it was sent: a
/// client that does not read must not make psid keep any number of answers.
pub(super) struct AnswerBody {
    body: tonic::body::Body,
    call: UserCall,
}

/// A part of an answer.
struct Held {
    bytes: Bytes,
    _place: CallsPlace,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerBody {
    pub(super) fn new(body: tonic::body::Body, call: UserCall) -> Self {
        Self { body, call }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let place = || this.call.place();
        let held = |bytes| Bytes::from_owner(Held { bytes, _place: place() });
        let frame = Pin::new(&mut this.body).poll_frame(context);
        match frame {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame.map(|frame| frame.map_data(held)))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
