"""Durable store and index of what arrived, and when a study is whole."""
