//! A certificate authority, by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An authority, and what it certifies, in a directory of its own.
pub struct Ca(TempDir);

/// What a certificate says besides its key.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its common name.
    pub name: &'a str,
    /// Lines of its extensions.
    pub extensions: &'a str,
    /// The days of its validity; fewer than none make it expired.
    pub days: i32,
}

/// A client that is valid for a day.
pub const CLIENT: Subject<'_> =
    Subject { name: "host", extensions: "extendedKeyUsage=clientAuth\n", days: 1 };

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// A new authority.
    pub fn new() -> Self {
        let ca = Self::without_certificate();
        let (key, certificate) = (ca.text("ca.key"), ca.text("ca.pem"));
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-subj",
            "/CN=ca",
            "-days",
            "9",
        ]);
        ca
    }

    /// An authority that another one certifies.
    pub fn below(root: &Self) -> Self {
        let ca = Self::without_certificate();
        let extensions = "basicConstraints=critical,CA:TRUE\n";
        let subject = Subject { name: "intermediate", extensions, days: 9 };
        root.certify_key(&ca.path("ca.key"), subject, &ca.path("ca.pem"));
        ca
    }

    fn without_certificate() -> Self {
        let ca = Self(tempfile::tempdir().unwrap());
        generate_ec_key(&ca.path("ca.key"));
        ca
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        fs::read_to_string(self.path("ca.pem")).unwrap()
    }

    /// Certifies a public key.
    pub fn certify(&self, public_key: &Path, subject: Subject<'_>, to: &Path) {
        fs::write(self.path("extensions"), subject.extensions).unwrap();
        openssl(&[
            "x509",
            "-new",
            "-force_pubkey",
            public_key.to_str().unwrap(),
            "-subj",
            &format!("/CN={}", subject.name),
            "-extfile",
            &self.text("extensions"),
            "-CA",
            &self.text("ca.pem"),
            "-CAkey",
            &self.text("ca.key"),
            "-days",
            &subject.days.to_string(),
            "-out",
            to.to_str().unwrap(),
        ]);
    }

    /// Certifies the key in a file.
    pub fn certify_key(&self, key: &Path, subject: Subject<'_>, to: &Path) {
        let public = self.path("public.pem");
        let (key, to_public) = (key.to_str().unwrap(), public.to_str().unwrap());
        openssl(&["pkey", "-in", key, "-pubout", "-out", to_public]);
        self.certify(&public, subject, to);
    }
}

/// Makes an EC key in PEM.
pub fn generate_ec_key(path: &Path) {
    let kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    openssl(&[&["genpkey", "-out", path.to_str().unwrap()][..], &kind].concat());
}

/// Runs openssl; its stdout.
#[track_caller]
pub fn openssl(args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
