//! Which interactions of a recommender's source matter.
