//! Writes once more, under the policy in force, what was sealed under another one.

use super::holes::Holes;
use super::options::Published;
use super::writer::Writer;
use super::written::WrittenParts;
use crate::error::Error;
use crate::read::ReadContext;
use drystone_env::BoxFuture;
use std::sync::Arc;

/// Times that the policy may be raised while a file is written: each costs its bytes once more.
const MAX_REWRITES: u32 = 3;

impl Writer {
    /// The policy of its place was raised while it was written: what was sealed is read back and written again under
    /// the one in force. It is kept until that is done.
    pub(super) async fn write_again(
        self,
        written: WrittenParts,
        holes: &Holes,
        refused: Error,
    ) -> Result<Published, Error> {
        let about = |error: Error| {
            error.about("the policy of its place was raised while it was written: write it once more")
        };
        let context = ReadContext {
            requester: self.context.requester.clone(),
            shared: Arc::clone(&self.context.shared.reads),
        };
        let length = written.length();
        let source = (self.rewritten < MAX_REWRITES)
            .then(|| written.read(context, &self.target))
            .flatten();
        let Some(mut source) = source else {
            return Err(about(refused));
        };
        tracing::info!(target = %self.target, length, "the policy was raised meanwhile: written again");
        let mut options = self.options.clone();
        options.size_hint = Some(length);
        let mut again = Writer::new(self.context.clone(), self.target.clone(), options);
        again.rewritten = self.rewritten + 1;
        let (mut holes, mut at) = (holes.iter().peekable(), 0);
        while let Some(piece) = source.next().await {
            let mut piece = piece.map_err(about)?;
            while let Some(hole) = holes.next_if(|hole| hole.at < at + piece.len() as u64) {
                let before = piece.split_to((hole.at - at) as usize);
                at = hole.at;
                again.take(before).await.map_err(about)?;
                again.take_hole(hole.length).await.map_err(about)?;
            }
            at += piece.len() as u64;
            again.take(piece).await.map_err(about)?;
        }
        for hole in holes {
            again.take_hole(hole.length).await.map_err(about)?;
        }
        again.finish_boxed().await
    }

    fn finish_boxed(self) -> BoxFuture<Result<Published, Error>> {
        Box::pin(self.finish())
    }
}
