//! Asks the server for its status, and reads its clock and its certificate off the answer.

use std::time::SystemTime;

use reqwest::Response;
use reqwest::header::DATE;
use reqwest::tls::TlsInfo;
use serde::de::IgnoredAny;

use super::{Api, below};
use crate::model::clock::Timestamp;
use crate::provider::infisical::certificate;
use crate::provider::infisical::response::{ApiError, parse, receive, transport_error};

/// What an answer shows of its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::provider::infisical) struct Probe {
    /// The time on its clock, to the second.
    pub(in crate::provider::infisical) clock: Option<Timestamp>,
    /// When its certificate expires.
    pub(in crate::provider::infisical) certificate_end: Option<Timestamp>,
}

impl Api {
    /// Probes the server without a login.
    pub(in crate::provider::infisical) async fn probe(&self) -> Result<Probe, ApiError> {
        let url = below(&self.base, &["api", "status"])?;
        let sent = self.client.get(url).send().await;
        let response = sent.map_err(|error| transport_error(&error))?;
        let probe = Probe { clock: clock(&response), certificate_end: certificate_end(&response) };
        parse::<IgnoredAny>(receive(response, &[]).await?)?;
        Ok(probe)
    }

    /// The URL of the instance.
    pub(in crate::provider::infisical) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }
}

fn clock(response: &Response) -> Option<Timestamp> {
    date(response.headers().get(DATE)?.to_str().ok()?)
}

fn certificate_end(response: &Response) -> Option<Timestamp> {
    let leaf = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    Some(certificate::validity(leaf)?.end)
}

/// A date of HTTP in the form that servers send: "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let time = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    humantime::parse_rfc3339(&time).ok().map(|time: SystemTime| time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_of_http_is_read_to_the_second() {
        let seconds = |text: &str| date(text).map(|time| time.as_millis() / 1_000);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for other in
            ["", "Sun, 06 Nov 1994", "Sunday, 06-Nov-94 08:49:37 GMT", "x, 6 Now 1994 1 GMT"]
        {
            assert_eq!(seconds(other), None, "{other}");
        }
    }
}
