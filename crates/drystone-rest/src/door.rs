//! What every request has at hand.

use drystone_client::Client;
use drystone_env::Env;

/// See the module.
pub(crate) struct Door {
    /// For the clock.
    pub(crate) env: Env,
    /// Of the cluster.
    pub(crate) client: Client,
    /// For requests that name no user.
    pub(crate) default_user: String,
}
