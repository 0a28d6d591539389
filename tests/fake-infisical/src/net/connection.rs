//! A client's connection to the public port.

use std::net::IpAddr;

use super::delivery::{Delivery, EncodedAnswer, deliver, hang, reset};
use super::{PublicPort, Wire};
use crate::api::call::client_address;
use crate::api::error::bad_url;
use crate::api::{self, etag};
use crate::auth::tls_cert;
use crate::fake::{FakeInfisical, Shared};
use crate::fault::Fault;
use crate::fault::subject::Subject;
use crate::http::read::{ReadError, Reader};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::metadata;

/// The handling of a request.
enum Course {
    Hang,
    Reset,
    Send(EncodedAnswer, Delivery),
}

/// Serves requests until the client disconnects or a fault ends the connection.
pub async fn converse(mut wire: impl Wire, peer: IpAddr, shared: Shared, face: PublicPort) {
    let mut reader = Reader::default();
    loop {
        let mut request = match reader.next(&mut wire).await {
            Ok(Some(request)) => request,
            Ok(None) | Err(ReadError::Gone) => return,
            Err(ReadError::Malformed) => {
                // The client may have disconnected as well
                let _ = deliver(&mut wire, bad_request(&shared), Delivery::Whole).await;
                return;
            }
        };
        // As the proxy does: what the client itself writes there counts for nothing.
        request.headers.remove(tls_cert::HEADER);
        let certificate = wire.client_certificate().filter(|_| face == PublicPort::Api);
        request.headers.extend(certificate.map(|text| (tls_cert::HEADER.to_owned(), text)));
        let course = decide(&mut shared.lock(), &request, peer, face);
        shared.arrivals.notify_waiters();
        match course {
            Course::Hang => return hang(&mut wire).await,
            Course::Reset => {
                // If this fails, the client sees a clean end, and the test detects it
                let _ = reset(&wire);
                return;
            }
            Course::Send(answer, delivery) => {
                let sent = deliver(&mut wire, answer, delivery).await;
                if sent.is_err() || request.wants_close {
                    return;
                }
            }
        }
    }
}

/// A request is logged, gets its fault and is answered at once. Only the delivery is left, so a
/// delayed answer has the state of the request's arrival.
fn decide(fake: &mut FakeInfisical, request: &Request, peer: IpAddr, face: PublicPort) -> Course {
    let endpoint = match face {
        PublicPort::Api => api::route(request, fake.dialect),
        PublicPort::Metadata => None,
    };
    let subject = Subject::of(fake, request, endpoint.as_ref(), face);
    let fault = fake.faults.strike(&subject);
    let now = fake.clock.now();
    let entry =
        fake.journal.arrive(request, endpoint.as_ref(), fault.as_ref().map(Fault::name), now);
    match &fault {
        Some(Fault::Hang) => return Course::Hang,
        Some(Fault::Reset) => return Course::Reset,
        _ => {}
    }
    if face == PublicPort::Api && !request.is_decodable() {
        fake.journal.answered(entry, 400);
        return Course::Send(pack(fake, request, bad_url(request)), Delivery::Whole);
    }
    let substitute = fault.as_ref().and_then(|fault| fault.substitute(&subject));
    let response = match (substitute, &fault) {
        (Some(response), _) => response,
        (None, _) if face == PublicPort::Metadata => metadata::answer(fake, request),
        (None, None) => {
            let from = client_address(request, peer);
            etag::apply(request, api::answer(fake, request, endpoint, from))
        }
        (None, Some(fault)) => {
            let request = &mut request.clone();
            if fault.rewrites() {
                request.headers.remove("if-none-match");
            }
            let from = client_address(request, peer);
            let response = fault.rewrite(api::answer(fake, request, endpoint, from));
            fault.encode(etag::apply(request, response))
        }
    };
    fake.journal.answered(entry, response.status);
    let answer = pack(fake, request, response);
    Course::Send(answer, Delivery::of(fault.as_ref()))
}

fn pack(fake: &FakeInfisical, request: &Request, response: Response) -> EncodedAnswer {
    let skew = fake.settings.clock_skew_seconds.saturating_mul(1000);
    let date = fake.clock.now().saturating_add_signed(skew);
    EncodedAnswer {
        head: response.head(date, request.wants_close),
        body: if request.method == "HEAD" { Vec::new() } else { response.body },
    }
}

/// Fastify's answer to input that is not HTTP.
fn bad_request(shared: &Shared) -> EncodedAnswer {
    let body =
        serde_json::json!({"error": "Bad Request", "message": "Client Error", "statusCode": 400});
    let response = Response::json(400, &body);
    EncodedAnswer { head: response.head(shared.lock().clock.now(), true), body: response.body }
}
