//! The call that imports secrets into a provider.

use psi_proto::v1::{ImportRequest, ImportResponse};

use crate::client::Client;
use crate::error::CliError;

impl Client {
    /// Imports secrets into a directory; the response has a result for each, in their order.
    pub(crate) fn import(&self, request: &ImportRequest) -> Result<ImportResponse, CliError> {
        self.call("/psi.v1.ImportAdmin", "Import", request)
    }
}
