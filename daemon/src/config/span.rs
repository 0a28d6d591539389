//! Time spans such as "10s", "5m", "1h" and "7d".

use std::time::Duration;

use toml::Spanned;

use super::fault::Fault;

/// A span, or the default; zero is an error.
pub(super) fn span(text: Option<Spanned<String>>, default: Duration) -> Result<Duration, Fault> {
    text.map_or(Ok(default), |text| parse_span(&text))
}

/// A span that may be zero.
pub(super) fn optional_span(
    text: Option<Spanned<String>>,
    default: Duration,
) -> Result<Duration, Fault> {
    let is_zero = |text: &Spanned<String>| {
        humantime::parse_duration(text.get_ref()).is_ok_and(|span| span.is_zero())
    };
    match text {
        Some(text) if is_zero(&text) => Ok(Duration::ZERO),
        text => span(text, default),
    }
}

/// The longest time span: no sum of two overflows.
const LONGEST_SPAN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Parses "10s", "5m", "1h" or "7d"; zero is an error.
pub(super) fn parse_span(text: &Spanned<String>) -> Result<Duration, Fault> {
    let fault = |what: String| Fault::of(text, what);
    let span = humantime::parse_duration(text.get_ref()).map_err(|error| {
        fault(format!("'{}' is not a time span like 10s, 5m, 1h or 7d: {error}", text.get_ref()))
    })?;
    match span {
        Duration::ZERO => Err(fault("a time span must be longer than 0s".into())),
        span if span > LONGEST_SPAN => Err(fault("a time span must be at most ten years".into())),
        span => Ok(span),
    }
}
