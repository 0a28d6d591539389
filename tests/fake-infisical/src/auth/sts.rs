//! AWS STS, as far as Infisical uses it: the signer of a request for the caller's identity. The
//! signature is computed by AWS's description of Signature Version 4.

use data_encoding::HEXLOWER;
use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::calendar::iso8601;
use crate::clock::Millis;
use crate::state::cloud::Aws;

/// The accepted difference of a signature's time.
const TOLERANCE: Millis = 15 * 60 * 1000;
const QUESTION: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The signer.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: String,
    pub role: String,
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Answers a request to the endpoint of `region`; `Err` is AWS's code.
pub fn caller(
    aws: &Aws,
    region: &str,
    method: &str,
    headers: &Map<String, Value>,
    body: &str,
    now: Millis,
) -> Result<Caller, &'static str> {
    let mut headers = normalised(headers);
    // The server's HTTP client adds it; the Python SDK signs a length that it does not pass on.
    headers.entry("content-length".to_owned()).or_insert_with(|| body.len().to_string());
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let authorization =
        Authorization::parse(header("authorization")).ok_or("IncompleteSignature")?;
    let time = header("x-amz-date");
    let host = format!("sts.{region}.amazonaws.com");
    let all_signed = |name: &String| {
        let must = name == "host" || name.starts_with("x-amz-");
        !must || authorization.signed.contains(&name.as_str())
    };
    if header("host") != host
        || !headers.keys().all(all_signed)
        || !time.starts_with(authorization.date)
    {
        return Err("SignatureDoesNotMatch");
    }
    let current = basic(now.saturating_sub(TOLERANCE))..=basic(now + TOLERANCE);
    if !current.contains(&time.to_owned()) {
        return Err("SignatureDoesNotMatch");
    }
    if authorization.access_key_id != aws.access_key_id || authorization.region != region {
        return Err("InvalidClientTokenId");
    }
    if aws.revoked || header("x-amz-security-token") != aws.session_token {
        return Err("ExpiredToken");
    }
    let expected = authorization.computed(aws, method, &headers, body, time);
    if authorization.signature != expected || body != QUESTION {
        return Err("SignatureDoesNotMatch");
    }
    let role = aws.role.clone().unwrap_or_default();
    Ok(Caller { account: aws.account.clone(), role })
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let parts = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| {
            parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let credential: Vec<&str> = part("Credential")?.split('/').collect();
        let [access_key_id, date, region, "sts", "aws4_request"] = credential[..] else {
            return None;
        };
        let signed = part("SignedHeaders")?.split(';').collect();
        Some(Self { access_key_id, date, region, signed, signature: part("Signature")? })
    }

    fn computed(
        &self,
        aws: &Aws,
        method: &str,
        headers: &BTreeMap<String, String>,
        body: &str,
        time: &str,
    ) -> String {
        let mut names = self.signed.clone();
        names.sort_unstable();
        let line = |name: &&str| {
            let value = headers.get(*name).map_or("", String::as_str);
            format!("{name}:{value}\n")
        };
        let canonical = format!(
            "{method}\n/\n\n{}\n{}\n{}",
            names.iter().map(line).collect::<String>(),
            names.join(";"),
            hex(&Sha256::digest(body)),
        );
        let scope = format!("{}/{}/sts/aws4_request", self.date, self.region);
        let text =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = format!("AWS4{}", aws.secret_access_key).into_bytes();
        let steps = [self.date, self.region, "sts", "aws4_request", &text];
        hex(&steps.into_iter().fold(key, |key, step| mac(&key, step)))
    }
}

/// Names in lower case, values with single spaces.
fn normalised(headers: &Map<String, Value>) -> BTreeMap<String, String> {
    let spaced = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts = headers.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    texts.map(|(name, value)| (name.to_ascii_lowercase(), spaced(value))).collect()
}

/// `20261123T120000Z`
fn basic(at: Millis) -> String {
    let text = iso8601(at).replace(['-', ':'], "");
    format!("{}Z", &text[..15])
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-11-23T12:00:00Z
    const NOW: Millis = 1_795_435_200_000;

    fn aws() -> Aws {
        Aws {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: "the-session-token".to_owned(),
            ..Aws::default()
        }
    }

    /// Signed by AWS's own botocore 1.44.5.
    fn headers() -> Map<String, Value> {
        let headers = json!({
            "Host": "sts.eu-central-1.amazonaws.com",
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "X-Amz-Date": "20261123T120000Z",
            "X-Amz-Security-Token": "the-session-token",
            "Authorization": "AWS4-HMAC-SHA256 \
                Credential=AKIDEXAMPLE/20261123/eu-central-1/sts/aws4_request, \
                SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                Signature=a47274f7a541b874d77b07e5c15053c166bf026c2c594dc869a7bb7f21abe3df",
        });
        headers.as_object().unwrap().clone()
    }

    fn ask(aws: &Aws, headers: &Map<String, Value>, now: Millis) -> Result<Caller, &'static str> {
        caller(aws, "eu-central-1", "POST", headers, QUESTION, now)
    }

    #[test]
    fn sts_accepts_aws_signature_for_15_minutes() {
        let caller = ask(&aws(), &headers(), NOW).unwrap();
        assert_eq!((caller.account.as_str(), caller.role.as_str()), ("123456789012", "host-role"));
        for late in [NOW - TOLERANCE, NOW + TOLERANCE] {
            assert!(ask(&aws(), &headers(), late).is_ok());
        }
        for late in [NOW - TOLERANCE - 1000, NOW + TOLERANCE + 1000] {
            assert_eq!(ask(&aws(), &headers(), late), Err("SignatureDoesNotMatch"));
        }
    }

    /// The same from the Python SDK, which signs the length as well.
    #[test]
    fn sts_accepts_a_request_without_its_signed_length_header() {
        let mut headers = headers();
        let authorization = "AWS4-HMAC-SHA256 \
            Credential=AKIDEXAMPLE/20261123/eu-central-1/sts/aws4_request, \
            SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token, \
            Signature=b97dee0234f192f6619a790ac6c8135c088a91c742f2c41d2ad0aa705789cde8";
        headers.insert("Authorization".to_owned(), authorization.into());
        assert!(ask(&aws(), &headers, NOW).is_ok());
        let longer = format!("{QUESTION}&");
        assert!(caller(&aws(), "eu-central-1", "POST", &headers, &longer, NOW).is_err());
    }

    #[test]
    fn sts_rejects_any_changed_part() {
        let with = |name: &str, from: &str, to: &str| {
            let mut headers = headers();
            let value = headers[name].as_str().unwrap().replace(from, to);
            headers.insert(name.to_owned(), value.into());
            ask(&aws(), &headers, NOW)
        };
        let mismatch = Err("SignatureDoesNotMatch");
        assert_eq!(with("Content-Type", "utf-8", "utf-9"), mismatch);
        assert_eq!(with("X-Amz-Date", "20261123T1200", "20261123T1201"), mismatch);
        assert_eq!(with("Host", "eu-central-1", "us-east-1"), mismatch);
        assert_eq!(with("Authorization", "=a4", "=a5"), mismatch);
        assert_eq!(with("Authorization", ";x-amz-security-token", ""), mismatch);
        assert_eq!(with("Authorization", "AKIDEXAMPLE", "AKIDOTHER"), Err("InvalidClientTokenId"));
        assert_eq!(with("X-Amz-Security-Token", "the", "another"), Err("ExpiredToken"));
        assert_eq!(with("Authorization", "AWS4-HMAC", "AWS5-HMAC"), Err("IncompleteSignature"));
        let other = caller(&aws(), "eu-central-1", "POST", &headers(), "Action=DeleteUser", NOW);
        assert_eq!(other, mismatch);
        let revoked = Aws { revoked: true, ..aws() };
        assert_eq!(ask(&revoked, &headers(), NOW), Err("ExpiredToken"));
    }
}
