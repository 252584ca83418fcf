//! The number of pairs of each user and each item.

use kernels::Csr;
use runtime::error::Result;
use runtime::memory;

/// [rows]: number of entries missing to `most`, by default the median of non-empty rows. An empty row gets none, since
/// nothing is known of it.
pub fn room(matrix: &Csr, most: Option<usize>) -> Result<Vec<usize>> {
    let lengths = || matrix.indptr.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
    let most = match most {
        Some(most) => most,
        None => {
            let mut known = Vec::new();
            memory::reserve(&mut known, matrix.rows())?;
            known.extend(lengths().filter(|&n| n > 0));
            let middle = known.len() / 2;
            if known.is_empty() { 0 } else { *known.select_nth_unstable(middle).1 }
        }
    };
    let mut room = Vec::new();
    memory::reserve(&mut room, matrix.rows())?;
    room.extend(lengths().map(|n| if n == 0 { 0 } else { most.min(matrix.columns).saturating_sub(n) }));
    Ok(room)
}

/// Splits `n` pairs into those for users and those for items, of which a share `items` is wanted. What one side has no
/// room for goes to the other.
pub fn split(n: usize, items: f64, of_users: &[usize], of_items: &[usize]) -> (usize, usize) {
    let room = |room: &[usize]| room.iter().fold(0usize, |sum, &n| sum.saturating_add(n));
    let (users, most) = (room(of_users), room(of_items));
    let items = ((n as f64 * items).round() as usize).min(n).min(most);
    let users = (n - items).min(users);
    (users, (n - users).min(most))
}

/// Distributes `n` in proportion to `room` by largest remainders, ties to the first. Returns the rows that get any,
/// ascending. `n` must be at most the sum of `room`.
pub fn proportional(room: &[usize], n: usize) -> Result<Vec<(u32, usize)>> {
    let total: u128 = room.iter().map(|&n| n as u128).sum();
    let mut shares = Vec::new();
    if n == 0 || total == 0 {
        return Ok(shares);
    }
    let mut rest = n;
    let mut remainders = Vec::new();
    for (row, &room) in room.iter().enumerate().filter(|&(_, &room)| room > 0) {
        let product = room as u128 * n as u128;
        let share = (product / total) as usize;
        rest -= share.min(rest);
        memory::push(&mut remainders, (product % total, shares.len()))?;
        memory::push(&mut shares, (row as u32, share))?;
    }
    remainders.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    remainders.iter().take(rest).for_each(|&(_, at)| shares[at].1 += 1);
    shares.retain(|&(_, share)| share > 0);
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparser_get_more_and_none_more_than_is_missing() {
        let lengths = [1u64, 0, 9, 4, 5, 30];
        let indptr = std::iter::once(0)
            .chain(lengths.iter().scan(0, |sum, n| {
                *sum += n;
                Some(*sum)
            }))
            .collect();
        let matrix = Csr { indptr, columns: 40, ..Csr::default() };
        // The median of 1, 4, 5, 9, 30 is 5.
        assert_eq!(room(&matrix, None).unwrap(), [4, 0, 0, 1, 0, 0]);
        let wide = room(&matrix, Some(10)).unwrap();
        assert_eq!(wide, [9, 0, 1, 6, 5, 0]);
        assert_eq!(room(&matrix, Some(1000)).unwrap()[5], 10);
        for n in 0..=21 {
            let shares = proportional(&wide, n).unwrap();
            assert_eq!(shares.iter().map(|share| share.1).sum::<usize>(), n);
            assert!(shares.iter().all(|&(row, share)| share <= wide[row as usize]), "{n}: {shares:?}");
        }
        assert_eq!(proportional(&wide, 10).unwrap(), [(0, 4), (2, 1), (3, 3), (4, 2)]);
        assert!(proportional(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn what_one_side_has_no_room_for_goes_to_the_other() {
        assert_eq!(split(10, 0.3, &[100], &[50, 50]), (7, 3));
        assert_eq!(split(10, 0.3, &[5], &[50, 50]), (5, 5));
        assert_eq!(split(10, 0.3, &[100], &[1]), (9, 1));
        assert_eq!(split(10, 1.0, &[2], &[3]), (2, 3));
        assert_eq!(split(0, 0.5, &[2], &[3]), (0, 0));
    }
}
