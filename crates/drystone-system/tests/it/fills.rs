//! A disk that everything shares, filled and emptied again and again.

use drystone_system::fills::fill_and_empty;
use drystone_system::mount::can_mount;

#[test]
fn a_disk_that_was_filled_and_emptied_takes_as_much_again_of_other_sizes() {
    if can_mount() {
        fill_and_empty(3, 3 << 29);
    }
}
