import unittest

from durations import format_duration, parse_duration


class DurationsTest(unittest.TestCase):
    def test_parses_a_sum_of_units(self):
        self.assertEqual(parse_duration("2h 15m"), 8100)

    def test_refuses_what_is_no_duration(self):
        with self.assertRaises(ValueError):
            parse_duration("soon")

    def test_formats_zero(self):
        self.assertEqual(format_duration(0), "0s")

    def test_formats_several_units(self):
        self.assertEqual(format_duration(8100), "2h 15m")

    def test_formats_one_of_a_unit(self):
        self.assertEqual(format_duration(3600), "1h")
        self.assertEqual(format_duration(5400), "1h 30m")
        self.assertEqual(format_duration(90061), "1d 1h 1m 1s")


if __name__ == "__main__":
    unittest.main()
