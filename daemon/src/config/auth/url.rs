//! The URLs of `auth`.

use toml::Spanned;
use url::{Host, Url};

use crate::config::fault::Fault;

/// The address of the metadata service in every cloud.
const METADATA_URL: &str = "http://169.254.169.254";

/// `metadata_url`, or its default.
pub(super) fn metadata_url(
    text: Option<&Spanned<String>>,
    warnings: &mut Vec<String>,
) -> Result<Url, Fault> {
    let at = text.map(|text| text.span().start);
    let fault = |what: String| Fault { at, what };
    let url = Url::parse(text.map_or(METADATA_URL, |text| text.get_ref()))
        .map_err(|error| fault(format!("metadata_url is not a URL: {error}")))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(fault("metadata_url must be http or https".into()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(fault("metadata_url must hold neither a user, a password nor a query".into()));
    }
    if url.scheme() == "http" && !is_link_local(&url) {
        warnings.push(
            "metadata_url is http to another host: this host's login credential crosses the network in \
             clear text"
                .into(),
        );
    }
    Ok(url)
}

/// Whether a URL's host is this one or on its own link, as metadata services are.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // EC2's own is fd00:ec2::254.
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0xec2]
        }
        Some(Host::Domain(name)) => ["localhost", "metadata.google.internal"].contains(&name),
        None => false,
    }
}

/// Where Infisical's cloud takes a client certificate.
const CLOUD_PORT: u16 = 8443;

/// `login_url`, or `api_url` with the port at which Infisical's cloud takes a client certificate.
pub(super) fn login_url(
    text: Option<&Spanned<String>>,
    api_url: &str,
    at: usize,
) -> Result<Url, Fault> {
    let (key, text, at) = match text {
        Some(text) => ("login_url", text.get_ref().as_str(), text.span().start),
        None => ("api_url", api_url, at),
    };
    let fault = |what: String| Fault::at(at, what);
    let mut url =
        Url::parse(text).map_err(|error| fault(format!("{key} is not a URL: {error}")))?;
    if url.scheme() != "https" {
        return Err(fault(format!("tls-cert needs https: {key} is {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(fault(format!("{key} must hold neither a user, a password nor a query")));
    }
    let is_cloud = url.host_str().is_some_and(|host| host.ends_with(".infisical.com"));
    if key == "api_url" && is_cloud && url.port().is_none() {
        // An https URL always has a port to set.
        let _ = url.set_port(Some(CLOUD_PORT));
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/api").to_owned();
    url.set_path(&path);
    Ok(url)
}
