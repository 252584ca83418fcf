//! What every method must do.

use super::*;

#[test]
fn every_method_is_found_by_its_name() {
    for method in Method::ALL {
        assert_eq!(Method::from_name(method.name()).unwrap(), method);
    }
    assert!(matches!(Method::from_name("magic"), Err(Error::UnknownName { .. })));
}

#[test]
fn ranks_begin_with_the_highest_score() {
    assert_eq!(ranks(&[0.5, 2.0, -1.0, 0.5]), [2, 1, 4, 3]);
}
