//! The checks of psid's messages, before any other code reads them.
//!
//! psid talks to the network. These programs run as root, and write names of psid's into units, arguments and files,
//! so they rely on no check of psid's. A name of a wrong form ends the call. Text for people is made printable: in a
//! report of several lines, a text of one field stays on its line.

use std::borrow::Cow;

use psi_common::SecretId;
use psi_common::check::{self, InvalidText};
use psi_proto::health::HealthCheckResponse;
use psi_proto::v1::{DeleteResponse, ListResponse, LookupResponse, StoreResponse};

/// The reason why a message is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidMessage(pub(crate) String);

impl From<InvalidText> for InvalidMessage {
    fn from(error: InvalidText) -> Self {
        Self(error.to_string())
    }
}

/// A response of psid's.
pub(crate) trait Checked: Printable {
    /// Checks the form of each name, key, id and unit in the message.
    fn check(&self) -> Result<(), InvalidMessage> {
        Ok(())
    }

    /// The message, with every text of it checked or printable.
    fn checked(mut self) -> Result<Self, InvalidMessage>
    where
        Self: Sized,
    {
        self.check()?;
        self.make_printable();
        Ok(self)
    }
}

/// A value with text for people.
pub(crate) trait Printable {
    /// Escapes control characters and line ends.
    fn make_printable(&mut self);
}

impl Printable for String {
    fn make_printable(&mut self) {
        if let Cow::Owned(text) = check::printable(self) {
            *self = text;
        }
    }
}

impl<T: Printable> Printable for Vec<T> {
    fn make_printable(&mut self) {
        self.iter_mut().for_each(T::make_printable);
    }
}

impl<T: Printable> Printable for Option<T> {
    fn make_printable(&mut self) {
        self.iter_mut().for_each(T::make_printable);
    }
}

/// The fields of each message that are or contain text. A test puts text into every field.
macro_rules! texts {
    ($($message:ty { $($field:ident),* })+) => {
        $(impl $crate::client::Printable for $message {
            fn make_printable(&mut self) {
                $(self.$field.make_printable();)*
            }
        })+
    };
}

/// Implements `Checked` for messages of values, numbers, and text for people.
macro_rules! nothing_to_check {
    ($($message:ty),+ $(,)?) => { $(impl $crate::client::Checked for $message {})+ };
}

pub(crate) use {nothing_to_check, texts};

texts! {
    DeleteResponse {}
    HealthCheckResponse {}
    ListResponse { ids }
    LookupResponse {}
    StoreResponse {}
}

nothing_to_check!(DeleteResponse, HealthCheckResponse, LookupResponse, StoreResponse);

impl Checked for ListResponse {
    fn check(&self) -> Result<(), InvalidMessage> {
        self.ids.iter().try_for_each(|id| is_id(id))
    }
}

/// Checks the form of a secret's id.
pub(crate) fn is_id(id: &str) -> Result<(), InvalidMessage> {
    id.parse::<SecretId>().map(drop).map_err(|error| InvalidMessage(error.to_string()))
}
