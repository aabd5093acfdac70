"""General words for the nouns that captions name: a dog is an animal, a pizza is food."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GENERAL = {
    "a person": _words(
        """man woman boy girl child person people men women children kid kids baby lady guy guys player
        players couple crowd toddler adult adults teenager skateboarder surfer skier snowboarder biker
        rider climber bride groom family boys girls ladies someone cyclist bicyclist worker workers
        police officer soldier students pedestrians team friends"""
    ),
    "an animal": _words(
        """dog dogs cat cats horse horses cow cows sheep bird birds bear bears elephant elephants zebra
        zebras giraffe giraffes puppy puppies kitten animal animals duck ducks geese swan seagull
        seagulls pigeons camel camels goat goats monkey rabbit fish bull bulls deer lion tiger poodle
        terrier greyhound retriever lamb cattle herd pony squirrel chicken turtle panda owl pelican
        calf butterfly bee insect parrot alligator crocodile snake frog whale dolphin shark penguin
        fox wolf"""
    ),
    "food": _words(
        """food pizza pizzas sandwich sandwiches cake cakes plate plates bowl bowls bread meat vegetables
        vegetable broccoli carrots carrot salad banana bananas apple apples oranges donut
        donuts doughnut doughnuts cheese sauce fries meal lunch breakfast dinner dessert fruit fruits
        soup hotdog hotdogs hamburger pasta noodles rice chicken bacon tomato tomatoes potato potatoes
        mushrooms toppings pastry pastries pie cookies frosting eggs egg sushi burger"""
    ),
    "a vehicle": _words(
        """car cars truck trucks bus buses train trains boat boats ship motorcycle motorcycles bicycle
        bicycles bike bikes plane planes airplane airplanes aircraft jet jets van taxi tractor tram
        subway trailer vehicle vehicles scooter helicopter canoe kayak raft sailboat engine jeep ferry
        firetruck ambulance"""
    ),
    "a building": _words(
        """building buildings house houses church tower towers skyscraper castle bridge barn shed temple
        monument apartment palace lighthouse skyline hut"""
    ),
    "a room": _words(
        """room kitchen bathroom bedroom bed sofa couch desk table toilet sink refrigerator fridge oven
        stove microwave bathtub shower mirror cabinet cabinets counter television tv lamp shelf
        shelves office hotel curtains furniture pillow pillows restroom fireplace dresser"""
    ),
    "the open water": _words(
        """water ocean sea lake beach river wave waves shore surf surfboard pool pond stream harbor"""
    ),
    "snow and ice": _words("snow ski skis snowboard slope ice snowy skiing snowboarding sled glacier"),
    "plants": _words(
        """flower flowers plant plants tree trees garden bush bushes leaves vase roses sunflower grass
        forest field woods meadow"""
    ),
    "a device": _words(
        """computer computers laptop laptops keyboard phone phones cellphone monitor screen mouse camera
        television remote controller machine radio printer telephone"""
    ),
}
"""What can be said of a photo in general, and the nouns that say so; a noun may belong to several."""


def kinds(word: str) -> tuple[str, ...]:
    """The general words for a noun, none where it has none."""
    return tuple(general for general, nouns in GENERAL.items() if word in nouns)
