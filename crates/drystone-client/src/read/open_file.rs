//! One content of one file, as its look-up found it, and the pages of where its bytes are.

use super::locate::ExtentPage;
use super::options::ReadOptions;
use super::shared::ReadContext;
use crate::attributes::Attributes;
use crate::error::{Error, ErrorKind};
use crate::target::Target;
use bytes::Bytes;
use drystone_proto::meta::LookupRequest;
use drystone_types::Code;
use std::sync::Arc;

const READ: &str = "read";

/// See the module.
pub(crate) struct OpenFile {
    pub(super) context: ReadContext,
    pub(super) target: Target,
    pub(super) attributes: Attributes,
    pub(super) options: ReadOptions,
    pub(super) inline: Option<Bytes>,
    pub(super) first: Arc<ExtentPage>,
    /// No look-up knows more than the first page: it is not published.
    pub(super) is_private: bool,
}

impl OpenFile {
    /// The page of extents from `offset` on, of the pinned content.
    pub(crate) async fn page(&self, offset: u64) -> Result<Arc<ExtentPage>, Error> {
        if self.is_private {
            return Ok(Arc::clone(&self.first));
        }
        let request = LookupRequest {
            content: true,
            offset,
            pinned: Some(self.attributes.content_version().tag()),
            ..LookupRequest::default()
        };
        let place = Target::inode(self.attributes.inode).message(READ)?;
        match self
            .context
            .requester
            .look_up(READ, place, self.options.consistency, request)
            .await
        {
            Ok(reply) => Ok(Arc::new(ExtentPage::of(
                &reply,
                offset,
                None,
                self.attributes.size,
            ))),
            Err(failed) if matches!(failed.code, Code::NotFound | Code::Changed) => {
                Err(Error::new(ErrorKind::Changed, READ, self.target.to_string()).because(failed.error))
            }
            Err(failed) => Err(failed.error.about(&self.target)),
        }
    }

    pub(crate) fn error(&self, kind: ErrorKind, context: impl std::fmt::Display) -> Error {
        Error::new(kind, READ, format!("{}: {context}", self.target))
    }
}
