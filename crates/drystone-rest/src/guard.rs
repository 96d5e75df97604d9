//! What is looked at before a byte of a body is read, so that nobody sends gigabytes in vain: whether there is a place
//! for the file, whether the caller may write there, and whether the conditions hold. The command that is applied
//! decides again.

use crate::call::Call;
use crate::conditions::{self, Conditions, Verdict};
use crate::respond::invalid;
use drystone_client::{Attributes, Code, Error, ErrorKind, Kind, Precondition, WriteOptions};
use drystone_gateway::Problem;
use drystone_gateway::request_body::expects_continue;
use drystone_types::permission::{SEARCH, WRITE};

/// A body of more bytes is looked at first; a smaller one costs less than the look-up.
const LARGE_BYTES: u64 = 1 << 20;

impl Call {
    /// The conditions of a change to what is there, judged now; and what must hold when it is applied.
    ///
    /// # Errors
    /// `precondition_failed`; those of a look-up.
    pub(crate) async fn judged(&self) -> Result<Precondition, Problem> {
        let conditions = self.conditions()?;
        if !conditions.guard_changes() {
            return Ok(Precondition::default());
        }
        let present = self.client.stat(&self.path).await?;
        self.judge(&conditions, Some(&present))?;
        Ok(conditions.precondition_after(Some(&present)))
    }

    /// The same for a change that may also make what is not there.
    ///
    /// # Errors
    /// As [`Call::judged`].
    pub(crate) async fn judged_new(&self) -> Result<Precondition, Problem> {
        let conditions = self.conditions()?;
        if !conditions.guard_changes() {
            return Ok(Precondition::default());
        }
        let present = self.find(&self.path).await?;
        self.judge(&conditions, present.as_ref())?;
        Ok(conditions.precondition_after(present.as_ref()))
    }

    /// With an idempotency key the answer to the first request counts, which only the command knows.
    fn judge(&self, conditions: &Conditions, present: Option<&Attributes>) -> Result<(), Problem> {
        if self.idempotency()?.is_none() && conditions.judge_change(present) == Verdict::Failed {
            let etag = present.map(|present| self.client.etag(present.content_version()));
            return Err(conditions::failed(&self.path, etag.as_deref()));
        }
        Ok(())
    }

    /// Looks at the place of an upload of so many bytes (if that is known), where that is worth it, and completes what
    /// must hold when it is published.
    ///
    /// # Errors
    /// `precondition_failed`, `exists` (for a file that must be new), `not_found`, `is_a_directory`, `denied`.
    pub(crate) async fn look(&self, options: &mut WriteOptions, length: Option<u64>) -> Result<(), Problem> {
        if self.path == "/" {
            return Err(Error::new(ErrorKind::IsADirectory, "write", "/").into());
        }
        let conditions = self.conditions()?;
        let is_large = length.is_none_or(|length| length > LARGE_BYTES);
        if !(conditions.guard_changes() || is_large || expects_continue(&self.headers)) {
            return Ok(());
        }
        let present = self.find(&self.path).await?;
        match &present {
            Some(present) => self.may_change(present)?,
            None => self.may_create(options).await?,
        }
        self.judge(&conditions, present.as_ref())?;
        let must_be_new = options.precondition.absent && !conditions.want_absence();
        if must_be_new && present.is_some() && options.idempotency.is_none() {
            return Err(Error::new(ErrorKind::Exists, "write", self.path.clone()).into());
        }
        options.precondition = completed(
            &options.precondition,
            conditions.precondition_after(present.as_ref()),
        );
        Ok(())
    }

    async fn find(&self, path: &str) -> Result<Option<Attributes>, Problem> {
        match self.client.stat(path).await {
            Ok(attributes) => Ok(Some(attributes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn may_change(&self, present: &Attributes) -> Result<(), Problem> {
        let fault = match present.kind {
            Kind::File => return self.check(&self.path, present, WRITE),
            Kind::Directory => ErrorKind::IsADirectory,
            Kind::SymbolicLink => ErrorKind::IsALink,
        };
        Err(Error::new(fault, "write", self.path.clone()).into())
    }

    /// The nearest directory that is there is the one that gets a new entry.
    async fn may_create(&self, options: &WriteOptions) -> Result<(), Problem> {
        let mut path = self.path.as_str();
        loop {
            let (above, _) = path
                .rsplit_once('/')
                .ok_or_else(|| invalid("a path begins with a slash"))?;
            path = above;
            let directory = if path.is_empty() { "/" } else { path };
            match self.find(directory).await? {
                Some(parent) if parent.is_directory() => {
                    return self.check(directory, &parent, WRITE | SEARCH);
                }
                Some(_) => return Err(Error::new(ErrorKind::NotADirectory, "write", directory).into()),
                None if options.parents && !path.is_empty() => {}
                None => return Err(Error::new(ErrorKind::NotFound, "write", directory).into()),
            }
        }
    }

    fn check(&self, path: &str, attributes: &Attributes, wanted: u32) -> Result<(), Problem> {
        let caller = self.client.caller();
        if attributes.grants(caller, wanted) {
            return Ok(());
        }
        Err(Problem::new(
            Code::Denied,
            format!(
                "write: {} may not do this to {path} ({:04o} {} {})",
                caller.user, attributes.mode, attributes.owner, attributes.group
            ),
        ))
    }

    /// How it is told that a publication failed: a name that is taken is a failed condition for a client that made it
    /// one.
    pub(crate) fn told(&self, error: Error) -> Problem {
        let is_condition = error.kind() == ErrorKind::Exists
            && self
                .conditions()
                .is_ok_and(|conditions| conditions.guard_changes());
        if is_condition {
            conditions::failed(&self.path, None)
        } else {
            error.into()
        }
    }
}

/// What must hold at the publication: a file that must be new for one reason or the other must be new.
fn completed(asked: &Precondition, judged: Precondition) -> Precondition {
    Precondition {
        absent: asked.absent || judged.absent,
        ..judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_must_be_free_for_either_reason_must_be_free() {
        let (free, any) = (Precondition::absent, Precondition::default);
        // The second: `If-Unmodified-Since` was judged while nothing had the name.
        for (asked, judged) in [(free(), any()), (any(), free()), (free(), free())] {
            assert!(completed(&asked, judged).absent);
        }
        assert!(!completed(&any(), any()).absent);
    }
}
