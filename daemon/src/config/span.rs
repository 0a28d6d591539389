//! Time spans such as "10s", "5m", "1h" and "7d".

use std::time::Duration;

use toml::Spanned;

use super::fault::Fault;

/// A span, or the default; zero is an error.
pub(super) fn span(text: Option<Spanned<String>>, default: Duration) -> Result<Duration, Fault> {
    text.map_or(Ok(default), |text| parse_span(&text))
}

/// A span that may be zero, or the default.
pub(super) fn optional_span(
    text: Option<Spanned<String>>,
    default: Duration,
) -> Result<Duration, Fault> {
    text.map_or(Ok(default), |text| parse(&text))
}

/// The longest time span: no sum of two overflows.
const LONGEST_SPAN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Parses "10s", "5m", "1h" or "7d"; zero is an error.
pub(super) fn parse_span(text: &Spanned<String>) -> Result<Duration, Fault> {
    match parse(text)? {
        Duration::ZERO => Err(Fault::of(text, "a time span must be longer than 0s")),
        span => Ok(span),
    }
}

fn parse(text: &Spanned<String>) -> Result<Duration, Fault> {
    let fault = |what: String| Fault::of(text, what);
    let span = humantime::parse_duration(text.get_ref()).map_err(|error| {
        fault(format!("'{}' is not a time span like 10s, 5m, 1h or 7d: {error}", text.get_ref()))
    })?;
    if span > LONGEST_SPAN {
        return Err(fault("a time span must be at most ten years".into()));
    }
    Ok(span)
}
